// The explorer of a report. Nothing is unpacked or drawn before it is opened. What comes from users is text of the
// page's own options; only numbers reach the charts. gradscope/reporting/explorer.py says how the data are packed.
(() => {
  "use strict";

  const ZERO = -32768;
  const NONE = 32767;
  // As on white: in the dark the page turns the charts' lightness round, as it does with its figures.
  const TEXT = "#1b1f24";
  const SOFT = "#57606a";
  const LINE = "#d0d7de";
  const GREY = "#8c959f";
  const COLOURS = ["#0173b2", "#d55e00", TEXT, "#029e73", "#b8479a", "#8a6d3b", "#7a4fd0", "#6b7280"];
  const SAID = {
    median: "Lines: median over seeds; bands: 10 % to 90 % of the seeds.",
    mean: "Lines: mean over seeds of the logarithms; bands: 95 % interval of that mean, by Student's t.",
    range: "Lines: median over seeds; bands: from the least to the greatest seed.",
    each: "Lines: one for each seed.",
  };
  const ENDS = "A dot ends a line: beyond it the gradient is exactly zero; bands end where they reach zero.";
  const ROWS = "Triangles: the curves above. A click on a row adds or removes its curve.";
  const DASHES = ["solid", [7, 4], [2, 3], [9, 3, 2, 3]];

  const element = (id) => document.getElementById(`explorer-${id}`);
  const button = element("open");
  let opened = false;

  async function unpacked(id) {
    const packed = Uint8Array.from(atob(element(id).textContent), (letter) => letter.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  }

  async function open() {
    if (opened) return;
    opened = true;
    watcher.disconnect();
    if (!("DecompressionStream" in window)) {
      trouble("This browser is too old for the explorer: it has no DecompressionStream.");
      return;
    }
    try {
      const library = document.createElement("script");
      library.textContent = new TextDecoder().decode(await unpacked("library"));
      document.head.append(library);
      const data = table(await unpacked("data"));
      const byKeyboard = document.activeElement === button;
      button.hidden = true;
      element("body").hidden = false;
      start(data);
      if (byKeyboard) document.querySelector("#explorer-body select:enabled, #explorer-body input").focus();
    } catch (error) {
      trouble(`The explorer cannot be opened: ${error.message}`);
    }
  }

  function trouble(text) {
    button.hidden = true;
    element("body").hidden = true;
    element("trouble").textContent = `${text} The figures on this page and the tables beside it hold the same numbers.`;
  }

  // The packed data as a function from choices to curves.
  function table(bytes) {
    const length = new DataView(bytes.buffer).getUint32(0, true);
    const header = JSON.parse(new TextDecoder().decode(bytes.subarray(4, 4 + length)));
    const body = bytes.subarray(4 + length);
    const half = body.length / 2;
    const sizes = ["panel", "length", "loss", "truncation"].map((id) => element(id).options.length);
    const radii = radiusBoxes().length;
    const columns = header.columns.length;
    const begins = [0];
    header.scales.forEach((_, block) => {
      const lags = header.lags[block % header.lags.length].length;
      begins.push(begins[block] + radii * sizes[3] * columns * lags);
    });
    const number = (at, scale) => {
      const code = ((body[half + at] << 24) >> 16) | body[at];
      return code === ZERO ? -Infinity : code === NONE ? NaN : code / scale;
    };
    const view = ({ panel, length, loss, truncation }) => {
      const block = (panel * sizes[1] + length) * sizes[2] + loss;
      const lags = header.lags[block % header.lags.length];
      const scale = header.scales[block];
      const at = (radius, lag) =>
        header.columns.map((_, column) =>
          number(begins[block] + ((radius * sizes[3] + truncation) * columns + column) * lags.length + lag, scale),
        );
      return { lags, at, digits: scale > 50 ? 2 : scale > 5 ? 1 : 0 };
    };
    return { header, view };
  }

  const radiusBoxes = () => [...document.querySelectorAll("#explorer-radius input")];

  // Of numbers in order, interpolated linearly; beside an exact zero (-Infinity) the lower one, as in figures.
  function quantile(ordered, level) {
    const place = level * (ordered.length - 1);
    const below = Math.floor(place);
    const low = ordered[below];
    return low === -Infinity || below === place ? low : low + (place - below) * (ordered[below + 1] - low);
  }

  function ofSeeds(values, student) {
    const ordered = values.filter((value) => !Number.isNaN(value)).sort((a, b) => a - b);
    const count = ordered.length;
    if (!count) return null;
    const mean = ordered.reduce((sum, value) => sum + value, 0) / count;
    const squares = ordered.reduce((sum, value) => sum + (value - mean) ** 2, 0);
    return {
      low: quantile(ordered, 0.1),
      median: quantile(ordered, 0.5),
      high: quantile(ordered, 0.9),
      least: ordered[0],
      greatest: ordered[count - 1],
      mean,
      half_width: count > 1 ? student[count] * Math.sqrt(squares / (count - 1) / count) : NaN,
    };
  }

  // The statistic as chosen: its middle and, where there is one, its band.
  function banded(found, statistic) {
    if (!found) return { middle: NaN, low: NaN, high: NaN };
    if (statistic === "mean") {
      return { middle: found.mean, low: found.mean - found.half_width, high: found.mean + found.half_width };
    }
    const [low, high] = statistic === "median" ? [found.low, found.high] : [found.least, found.greatest];
    return { middle: found.median, low, high };
  }

  function start({ header, view }) {
    const radii = radiusBoxes().map((box) => Number(box.dataset.radius));
    const chosen = {};
    const places = new Map(); // of radii among the colours: each keeps its own while it is shown
    const colour = (radius) => COLOURS[places.get(radius) % COLOURS.length];
    const dash = (radius) =>
      DASHES[(places.get(radius) + Math.floor(places.get(radius) / COLOURS.length)) % DASHES.length];
    const charts = ["curves", "map"].map((id) => window.echarts.init(element(id), null, { renderer: "svg" }));
    const [curves, map] = charts;
    drawScale(header);

    const statistics = (current, radius, lag) => {
      const values = current.at(radius, lag);
      if (header.each_seed) return ofSeeds(values, header.student);
      const found = Object.fromEntries(header.columns.map((name, i) => [name, values[i]]));
      return Number.isNaN(found.median) ? null : found;
    };
    const changed = (current, radius, lag) => {
      const values = current.at(radius, lag);
      const first = current.at(radius, 0);
      if (header.each_seed) {
        const since = values.map((value, i) =>
          value === -Infinity ? value : first[i] === -Infinity ? NaN : value - first[i],
        );
        const found = ofSeeds(since, header.student);
        return found && (chosen.statistic === "mean" ? found.mean : found.median);
      }
      const at = header.columns.indexOf(chosen.statistic === "mean" ? "mean" : "change");
      return chosen.statistic === "mean" && values[at] !== -Infinity ? values[at] - first[at] : values[at];
    };

    function show() {
      for (const id of ["panel", "length", "loss", "truncation"]) chosen[id] = Number(element(id).value);
      chosen.statistic = element("statistic").value;
      const current = view(chosen);
      const last = current.lags.length - 1;
      const picked = radiusBoxes()
        .filter((box) => box.checked)
        .map((box) => Number(box.value));
      give(picked);
      const lines = picked.map((radius) => ({
        radius,
        points: current.lags.map((_, lag) => banded(statistics(current, radius, lag), chosen.statistic)),
        seeds:
          chosen.statistic === "each"
            ? header.columns.map((_, i) => current.lags.map((_, lag) => current.at(radius, lag)[i]))
            : [],
      }));
      const slider = element("lag");
      if (chosen.current?.lags !== current.lags) {
        slider.max = last;
        slider.value = last;
      }
      Object.assign(chosen, { current, lines });
      curves.setOption(curvesOption(current, lines), true);
      map.setOption(mapOption(current, picked), true);
      describe();
      read();
    }

    function give(picked) {
      for (const radius of [...places.keys()]) if (!picked.includes(radius)) places.delete(radius);
      for (const radius of picked) {
        if (places.has(radius)) continue;
        const taken = new Set(places.values());
        places.set(
          radius,
          [...Array(taken.size + 1).keys()].find((place) => !taken.has(place)),
        );
        radiusBoxes()[radius].parentNode.querySelector("span").style.background = colour(radius);
      }
    }

    const curvesOption = (current, lines) => ({
      ...shared(current.lags),
      yAxis: axis("y", "log₁₀ ‖∂L/∂hₜ‖", {
        ...(lines.some(drawn) ? { scale: true } : { min: -1, max: 1 }),
        splitLine: { lineStyle: { color: LINE } },
      }),
      tooltip: {
        ...shared(current.lags).tooltip,
        trigger: "axis",
        axisPointer: { lineStyle: { color: SOFT } },
        formatter: (items) => curvesTip(current, lines, current.lags.indexOf(items[0].value[0])),
      },
      series: lines.flatMap(({ radius, points, seeds }) => [
        ...(seeds.length ? [] : [band(radius, current.lags, points), middleLine(radius, current.lags, points)]),
        ...seeds.map((values) => line(radius, current.lags, values, seeds.length > 1, values === longest(seeds))),
      ]),
    });

    function middleLine(radius, lags, points) {
      const values = points.map(({ middle }) => middle);
      return line(radius, lags, values, false, true);
    }

    const line = (radius, lags, values, faint, labelled) => ({
      type: "line",
      data: lags.map((lag, i) => ({
        value: [lag, Number.isFinite(values[i]) ? values[i] : null],
        symbol:
          values[i + 1] === -Infinity || !(Number.isFinite(values[i - 1]) || Number.isFinite(values[i + 1]))
            ? "circle"
            : "none",
        symbolSize: 7,
      })),
      symbol: "circle",
      showAllSymbol: true,
      animation: false,
      silent: true,
      color: colour(radius),
      itemStyle: { opacity: faint ? 0.55 : 1 },
      lineStyle: { color: colour(radius), type: dash(radius), width: faint ? 1 : 2, opacity: faint ? 0.55 : 1 },
      endLabel: {
        show: labelled && values.some(Number.isFinite),
        formatter: format(radii[radius]),
        color: colour(radius),
        distance: 4,
      },
      labelLayout: { moveOverlap: "shiftY" },
    });

    const drawn = ({ points, seeds }) =>
      points.some(({ middle }) => Number.isFinite(middle)) || seeds.some((values) => values.some(Number.isFinite));

    // A polygon for each stretch of lags at which the band has both ends.
    const band = (radius, lags, points) => {
      const stretches = [];
      let open = null;
      points.forEach(({ low, high }, i) => {
        if (!Number.isFinite(low) || !Number.isFinite(high)) {
          open = null;
          return;
        }
        if (!open) stretches.push((open = []));
        open.push([lags[i], low, high]);
      });
      return {
        type: "custom",
        silent: true,
        animation: false,
        clip: true,
        z: 1,
        encode: { x: 0, y: [1, 2] },
        tooltip: { show: false },
        data: stretches.flatMap((stretch, at) => stretch.map((point) => [...point, at])),
        renderItem: (params, api) => {
          const stretch = stretches[api.value(3)];
          if (stretch[0][0] !== api.value(0)) return null;
          const edge = (i) => stretch.map((point) => api.coord([point[0], point[i]]));
          return {
            type: "polygon",
            shape: { points: [...edge(1), ...edge(2).reverse()] },
            style: { fill: colour(radius), opacity: 0.16 },
          };
        },
      };
    };

    function mapOption(current, picked) {
      const across = edges(current.lags);
      const cells = [];
      radii.forEach((_, i) =>
        current.lags.forEach((lag, k) => {
          const change = changed(current, i, k);
          if (change !== null && !Number.isNaN(change)) cells.push([lag, i, k, change]);
        }),
      );
      return {
        ...shared(current.lags),
        yAxis: axis("y", "spectral radius", {
          min: -0.5,
          max: radii.length - 0.5,
          minInterval: 1,
          axisTick: { show: false },
          splitLine: { show: false },
          axisLabel: { ...inner, formatter: (row) => (Number.isInteger(row) ? format(radii[row]) : "") },
        }),
        tooltip: { ...shared(current.lags).tooltip, formatter: ({ data }) => mapTip(current, data) },
        series: [
          {
            type: "custom",
            animation: false,
            encode: { x: 0, y: 1 },
            data: cells,
            renderItem: (params, api) => {
              const [, i, k, change] = cells[params.dataIndex];
              const [left, bottom] = api.coord([across[k], i - 0.5]).map(Math.round);
              const [right, top] = api.coord([across[k + 1], i + 0.5]).map(Math.round);
              return {
                type: "rect",
                shape: { x: left, y: top, width: right - left, height: bottom - top },
                style: { fill: shade(header, change) },
                emphasis: { style: { stroke: TEXT, lineWidth: 1.5 } },
              };
            },
          },
          {
            type: "custom",
            animation: false,
            silent: true,
            encode: { x: 0, y: 1 },
            data: picked.map((radius) => [across[current.lags.length], radius]),
            renderItem: (params, api) => {
              const [x, y] = api.coord([api.value(0), api.value(1)]);
              return {
                type: "polygon",
                shape: {
                  points: [
                    [x + 3, y],
                    [x + 11, y - 5],
                    [x + 11, y + 5],
                  ],
                },
                style: { fill: colour(api.value(1)) },
              };
            },
          },
        ],
      };
    }

    function curvesTip(current, lines, lag) {
      const rows = lines.map(({ radius, points, seeds }) => [radius, spoken(current, radius, lag, points[lag], seeds)]);
      return tip(`lag ${current.lags[lag]}`, rows);
    }

    function mapTip(current, [lag, i, k, change]) {
      const { middle } = banded(statistics(current, i, k), chosen.statistic);
      return tip(`spectral radius ${format(radii[i])}, lag ${lag}`, [
        [null, `change since lag 0: ${shown(change, current.digits)}${change === -Infinity ? "" : " decades"}`],
        [null, `log₁₀ ‖∂L/∂hₜ‖: ${shown(middle, current.digits)}`],
      ]);
    }

    // A value with its band, in words.
    function spoken(current, radius, lag, { middle, low, high }, seeds) {
      if (seeds.length) {
        const each = seeds.map((values) => shown(values[lag], current.digits));
        return seeds.length === 1 || new Set(each).size > 1 ? each.join(", ") : `${each[0]} in each`;
      }
      const found = statistics(current, radius, lag);
      const partly = found && found.least === -Infinity && found.greatest > -Infinity;
      if (partly && middle === -Infinity) {
        return chosen.statistic === "mean" ? "−∞, zero in some seeds" : "zero in half of the seeds or more";
      }
      const interval =
        Number.isFinite(low) && Number.isFinite(high) && low < high
          ? ` (${shown(low, current.digits)} to ${shown(high, current.digits)})`
          : "";
      return shown(middle, current.digits) + interval + (partly ? ", zero in some seeds" : "");
    }

    function tip(title, rows) {
      const box = document.createElement("div");
      const head = document.createElement("strong");
      const body = document.createElement("table");
      box.className = "explorer-tip";
      head.textContent = title;
      for (const [radius, text] of rows) {
        const row = body.insertRow();
        if (radius !== null) {
          const swatch = document.createElement("span");
          swatch.className = "explorer-swatch";
          swatch.style.background = colour(radius);
          row.insertCell().append(swatch);
          row.insertCell().textContent = format(radii[radius]);
        }
        row.insertCell().textContent = text;
      }
      box.append(head, body);
      return box;
    }

    const option = (id) => element(id).selectedOptions[0].textContent.trim();

    function describe() {
      const [panel, length, truncation, loss] = ["panel", "length", "truncation", "loss"].map(option);
      const what = `${panel}, ${length}, truncation ${truncation}, loss at ${loss}`;
      const missing = chosen.current.lags.every((_, lag) =>
        radii.every((_, radius) => !statistics(chosen.current, radius, lag)),
      );
      element("curves-note").textContent = missing
        ? `${what}: no gradient was measured.`
        : `${what}. ${SAID[chosen.statistic]} ${ENDS}`;
      const centre = chosen.statistic === "mean" ? "mean" : "median";
      const zero = chosen.statistic === "mean" ? "zero in any seed" : "exactly zero";
      element("map-note").textContent =
        `${what}. A row for each spectral radius; ${centre} over seeds of the change since lag 0; grey: ${zero}. ${ROWS}`;
    }

    function read() {
      const { current, lines } = chosen;
      const lag = Number(element("lag").value);
      element("lag-shown").textContent = current.lags[lag];
      element("lag").setAttribute("aria-valuetext", `lag ${current.lags[lag]}`);
      const values = lines.map(
        ({ radius, points, seeds }) => `${format(radii[radius])}: ${spoken(current, radius, lag, points[lag], seeds)}`,
      );
      const what = `At lag ${current.lags[lag]}, log₁₀ ‖∂L/∂hₜ‖ (${option("statistic")}) by spectral radius`;
      element("summary").textContent = values.length ? `${what}: ${values.join("; ")}.` : "Choose a spectral radius.";
    }

    for (const id of ["panel", "length", "truncation", "loss", "statistic", "radius"])
      element(id).addEventListener("change", show);
    element("lag").addEventListener("input", () => {
      read();
      const series = curves.getOption().series.findIndex(({ type }) => type === "line");
      if (series >= 0)
        curves.dispatchAction({ type: "showTip", seriesIndex: series, dataIndex: Number(element("lag").value) });
    });
    element("lag").addEventListener("blur", () => curves.dispatchAction({ type: "hideTip" }));
    map.on("click", ({ data }) => {
      const box = radiusBoxes()[data[1]];
      box.checked = !box.checked;
      show();
    });
    new ResizeObserver(() => charts.forEach((chart) => chart.resize())).observe(element("curves"));
    show();
  }

  const live = (values) => values.filter(Number.isFinite).length;
  const longest = (seeds) => seeds.reduce((best, values) => (live(values) > live(best) ? values : best));
  const format = (value) => String(Number(value.toPrecision(6)));

  function shown(value, digits) {
    if (Number.isNaN(value)) return "no gradient";
    return value === -Infinity ? "exactly zero" : signed(value.toFixed(digits));
  }

  const signed = (text) => text.replace("-", "−");
  const ticks = { color: SOFT, formatter: (value) => signed(format(value)) };
  const inner = { ...ticks, showMinLabel: false, showMaxLabel: false };

  function axis(direction, name, more) {
    return {
      type: "value",
      name,
      nameLocation: "middle",
      nameGap: direction === "x" ? 26 : 44,
      nameTextStyle: { color: SOFT },
      axisLine: { show: true, lineStyle: { color: SOFT } },
      axisLabel: ticks,
      ...more,
    };
  }

  const shared = (lags) => ({
    animation: false,
    textStyle: { fontFamily: "system-ui, sans-serif" },
    grid: { left: 62, right: 46, top: 12, bottom: 44, outerBoundsMode: "none" },
    xAxis: axis("x", "lag (steps)", {
      min: -0.5,
      max: lags[lags.length - 1] + 0.5,
      axisLabel: inner,
      axisTick: { show: false },
      splitLine: { show: false },
    }),
    tooltip: {
      confine: true,
      backgroundColor: "#ffffff",
      borderColor: GREY,
      padding: [6, 8],
      textStyle: { color: TEXT },
      transitionDuration: 0,
    },
  });

  // Where the cells around these lags meet.
  const edges = (lags) => [-0.5, ...lags.slice(1).map((lag, i) => (lag + lags[i]) / 2), lags[lags.length - 1] + 0.5];

  // Linear up to one decade, logarithmic beyond.
  const bent = (decades) =>
    Math.sign(decades) * (Math.abs(decades) <= 1 ? Math.abs(decades) : 1 + Math.log10(Math.abs(decades)));

  function shade({ limit, colours }, change) {
    if (change === -Infinity) return GREY;
    const place = ((bent(Math.max(-limit, Math.min(limit, change))) / bent(limit) + 1) / 2) * (colours.length - 1);
    const below = Math.min(Math.floor(place), colours.length - 2);
    const parts = [1, 3, 5].map((at) => {
      const [from, to] = [below, below + 1].map((i) => parseInt(colours[i].slice(at, at + 2), 16));
      return Math.round(from + (place - below) * (to - from));
    });
    return `rgb(${parts})`;
  }

  function drawScale({ limit, colours }) {
    const [bar, marks] = document.querySelector(".explorer-bar").children;
    bar.style.background = `linear-gradient(to right, ${colours})`;
    element("zero").style.background = GREY;
    const powers = [1, 10, 100, 1000, 10000, 100000].filter((power) => power <= limit);
    for (const value of [...powers.map((power) => -power), 0, ...powers]) {
      const mark = document.createElement("li");
      mark.textContent = signed(String(value));
      mark.style.left = `${(bent(value) / bent(limit) + 1) * 50}%`;
      marks.append(mark);
    }
  }

  const watcher = new IntersectionObserver((seen) => {
    if (seen.some((entry) => entry.isIntersecting)) open();
  });
  button.hidden = false;
  button.addEventListener("click", open);
  watcher.observe(button);
})();
