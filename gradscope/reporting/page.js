"use strict";

// Tables sort by the column whose header is pressed: numbers by value, empty cells last.
const sort = (table, column, descending) => {
  const body = table.tBodies[0];
  const value = row => row.cells[column].textContent.trim();
  const number = text => parseFloat(text.replace("inf", "Infinity"));
  const rows = [...body.rows];
  const filled = rows.filter(row => value(row));
  const numeric = filled.every(row => !Number.isNaN(number(value(row))));
  const order = numeric ? (a, b) => number(value(a)) - number(value(b)) : (a, b) => value(a).localeCompare(value(b), "en", { numeric: true });
  filled.sort((a, b) => (descending ? order(b, a) : order(a, b)));
  body.append(...filled, ...rows.filter(row => !value(row)));
};

for (const table of document.querySelectorAll("table.sortable")) {
  const headers = [...table.tHead.rows[0].cells];
  headers.forEach((header, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...header.childNodes);
    header.append(button);
    button.addEventListener("click", () => {
      const descending = header.getAttribute("aria-sort") === "ascending";
      headers.forEach(other => other.removeAttribute("aria-sort"));
      header.setAttribute("aria-sort", descending ? "descending" : "ascending");
      sort(table, column, descending);
    });
  });
}

// A link to something folded unfolds it.
const unfold = () => {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  const folded = target && target.closest("details");
  if (folded && !folded.open) {
    folded.open = true;
    target.scrollIntoView();
  }
};
addEventListener("hashchange", unfold);
unfold();

// On paper nothing is folded.
let opened = [];
addEventListener("beforeprint", () => {
  opened = [...document.querySelectorAll("details:not([open])")];
  opened.forEach(details => { details.open = true; });
});
addEventListener("afterprint", () => opened.forEach(details => { details.open = false; }));

for (const button of document.querySelectorAll("button.copy")) {
  const source = document.getElementById(button.dataset.copies);
  button.hidden = false;
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(source.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(source);
      button.textContent = "Selected: copy it with the keyboard";
    }
  });
}
