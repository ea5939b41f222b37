"use strict";
// Conveniences only: the page is complete without them.

// A click on a column's head sorts a table: words from A to Z, numbers from the highest, ranks from the first.
for (const table of document.querySelectorAll("table.sortable")) {
  table.querySelectorAll("thead th").forEach((head, column) => {
    const up = !head.classList.contains("n") || head.textContent.trim() === "rank";
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const now = head.getAttribute("aria-sort");
      const down = now ? now === "ascending" : !up;
      table.querySelectorAll("thead th").forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const body = table.tBodies[0];
      const value = (row) => row.cells[column].textContent.trim();
      const number = (text) => parseFloat(text.replace("−", "-").replaceAll(",", ""));
      const compare = (a, b) => {
        const [x, y] = [value(a), value(b)];
        if (!x || !y) return !x - !y; // rows without a value stay last
        const both = head.classList.contains("n") ? number(x) - number(y) : NaN;
        const order = Number.isNaN(both) ? x.localeCompare(y, undefined, { numeric: true }) : both;
        return down ? -order : order;
      };
      body.append(...[...body.rows].sort(compare));
    });
  });
}

// A long table gets a field that hides the rows without the words in it.
for (const table of document.querySelectorAll("table.sortable")) {
  if (table.tBodies[0].rows.length < 16) continue;
  const field = document.createElement("input");
  field.type = "search";
  field.placeholder = "Filter rows";
  field.setAttribute("aria-label", `Filter rows of: ${table.caption.textContent}`);
  table.parentElement.before(field);
  field.addEventListener("input", () => {
    for (const row of table.tBodies[0].rows) {
      row.hidden = !row.textContent.toLowerCase().includes(field.value.toLowerCase());
    }
  });
}

addEventListener("beforeprint", () => {
  for (const part of document.querySelectorAll("details")) part.open = true;
});
