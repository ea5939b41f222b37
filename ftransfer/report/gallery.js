// The images behind a cell of the confusion matrix, a class, or a bar of the calibration.
const holder = document.getElementById("data");
const images = holder && JSON.parse(holder.textContent);
const percent = (share) => `${(100 * share).toFixed(1)}%`;
const count = (n, one = "image", many = "images") => `${n} ${n === 1 ? one : many}`;

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function nameOf(code) {
  return code >= 0 ? images.classes[code] : code === -2 ? "a class that no source has" : "";
}

const isTarget = (i) => images.predicted[i] >= 0;
const isMistake = (i) => isTarget(i) && images.label[i] !== -1 && images.label[i] !== images.predicted[i];

// What is known of an image: a list of terms and values, with the image above it where there is one.
function describe(i) {
  const terms = [["domain", images.domains[images.domain[i]]]];
  if (images.label[i] !== -1) terms.push(["label", nameOf(images.label[i])]);
  if (isTarget(i)) {
    terms.push(["prediction", nameOf(images.predicted[i])]);
    if (images.before[i] !== images.predicted[i]) terms.push(["source only", nameOf(images.before[i])]);
    if (images.sure[i] !== null) terms.push(["probability", percent(images.sure[i])]);
  }
  const list = element("dl");
  for (const [term, value] of terms) list.append(element("dt", {}, term), element("dd", {}, value));
  if (isMistake(i)) list.append(element("dd", { class: "bad" }, "✗ mistake"));
  const said = images.path[i];
  const parts = images.picture[i]
    ? [element("img", { src: `data:image/webp;base64,${images.picture[i]}`, alt: said, title: said })]
    : [];
  return [...parts, element("p", { class: "path" }, said), list];
}

let dialog = null;

// Show groups of images over the page: [title, how many there are in all or null, images].
function openGallery(title, groups) {
  dialog ??= document.body.appendChild(element("dialog", { class: "gallery", "aria-labelledby": "gallery" }));
  const close = element("button", { type: "button", class: "close", "aria-label": "Close" }, "×");
  close.addEventListener("click", () => dialog.close());
  dialog.replaceChildren(close, element("h2", { id: "gallery" }, title));
  for (const [name, total, shown] of groups) {
    if (!shown.length && !total) continue;
    if (name) dialog.append(element("h3", {}, name));
    const sampled = total === null || shown.length < total;
    const sample = shown.length ? `a sample of ${shown.length} of them` : "none of them in the page's sample";
    const all = total === null ? count(shown.length) : count(total);
    const where = "; predictions.csv beside this page lists every image of the target";
    const text = total === null ? `${all} of the page's sample.` : `${all}${sampled ? `: ${sample}${where}` : ""}.`;
    dialog.append(element("p", { class: "soft" }, text));
    const bare = shown.filter((i) => !images.picture[i]).length;
    if (bare) {
      const why = "the file was moved, deleted or changed, or exceeds the size limit of the page";
      dialog.append(element("p", { class: "soft" }, `Without a thumbnail: ${count(bare)}; ${why}.`));
    }
    const list = element("ul", { class: "found" });
    const order = (i) => (images.picture[i] ? 0 : 2) - (images.sure[i] ?? 0); // the surest first, those without a picture last
    for (const i of [...shown].sort((a, b) => order(a) - order(b))) list.append(element("li", {}, ...describe(i)));
    dialog.append(list);
  }
  dialog.showModal();
  dialog.scrollTop = 0;
}

function find(wanted) {
  return images.path.map((_, i) => i).filter(wanted);
}

function openCell(label, predicted, total) {
  const title = label === predicted ? `${nameOf(label)}, predicted as such` : `${nameOf(label)}, predicted as ${nameOf(predicted)}`;
  const found = find((i) => isTarget(i) && images.label[i] === label && images.predicted[i] === predicted);
  openGallery(title, [["", total, found]]);
}

function openClass(code) {
  const known = images.label.some((label, i) => isTarget(i) && label !== -1);
  const target = find(isTarget);
  const of = (wanted) => target.filter(wanted);
  const groups = known
    ? [
        ["Its images taken for another class", null, of((i) => images.label[i] === code && isMistake(i))],
        ["Images of other classes taken for it", null, of((i) => images.predicted[i] === code && isMistake(i))],
        ["Its images predicted as such", null, of((i) => images.label[i] === code && images.predicted[i] === code)],
      ]
    : [["Target images predicted as it", null, of((i) => images.predicted[i] === code)]];
  groups.push(["Source images", null, find((i) => !isTarget(i) && images.label[i] === code)]);
  openGallery(nameOf(code), groups);
}

function openBin(low, high, total) {
  const inside = (p) => p !== null && p >= low && (p < high || high >= 1);
  const found = find((i) => isTarget(i) && images.label[i] !== -1 && inside(images.sure[i]));
  const wrong = found.filter(isMistake);
  const title = `Probability ${low.toFixed(1)} to ${high.toFixed(1)}, ${count(total)}`;
  openGallery(title, [["Mistakes", null, wrong], ["Correct", null, found.filter((i) => !wrong.includes(i))]]);
}

// Give what stands in a cell a button of its own.
function asButton(cell, action, label) {
  const button = element("button", { type: "button", class: "open", ...(label && { "aria-label": label }) });
  button.append(...cell.childNodes);
  cell.append(button);
  button.addEventListener("click", action);
}

// The matrix is one stop of the Tab key; arrows move in it, Enter opens the images behind a cell.
for (const table of images ? document.querySelectorAll("table.confusion") : []) {
  const codes = table.dataset.codes.split(",").map(Number);
  const body = table.tBodies[0];
  const cells = [...body.rows].map((row) => [...row.cells].slice(1));
  const readout = element("p", { class: "readout soft", "aria-live": "polite" }, "Point at a cell, or go there by the arrow keys, and choose it to see its images.");
  table.parentElement.before(readout);
  table.setAttribute("role", "grid");
  const told = (r, c) => {
    const row = cells[r].map((cell) => Number(cell.textContent) || 0);
    const all = row.reduce((a, b) => a + b, 0);
    const share = all ? ` (${percent(row[c] / all)} of the row)` : "";
    return `Label ${nameOf(codes[r])}, prediction ${nameOf(codes[c])}: ${count(row[c])}${share}`;
  };
  const place = (cell) => [cell.parentElement.sectionRowIndex, cell.cellIndex - 1];
  const focus = (r, c) => {
    table.querySelector("td[tabindex='0']")?.setAttribute("tabindex", "-1");
    cells[r][c].setAttribute("tabindex", "0");
    cells[r][c].focus();
  };
  cells.flat().forEach((cell) => cell.setAttribute("tabindex", "-1"));
  cells[0][0].setAttribute("tabindex", "0");
  const open = (cell) => {
    const [r, c] = place(cell);
    const total = Number(cell.textContent) || 0;
    if (total) openCell(codes[r], codes[c], total);
  };
  for (const event of ["pointerover", "focusin"]) {
    body.addEventListener(event, ({ target }) => {
      const cell = target.closest("td");
      if (cell) readout.textContent = told(...place(cell));
    });
  }
  body.addEventListener("click", ({ target }) => target.closest("td") && open(target.closest("td")));
  body.addEventListener("keydown", (event) => {
    const cell = event.target.closest("td");
    if (!cell) return;
    const [r, c] = place(cell);
    const last = codes.length - 1;
    const moves = { ArrowUp: [r - 1, c], ArrowDown: [r + 1, c], ArrowLeft: [r, c - 1], ArrowRight: [r, c + 1], Home: [r, 0], End: [r, last] };
    if (event.key === "Enter" || event.key === " ") open(cell);
    else if (moves[event.key]) focus(...moves[event.key].map((n) => Math.min(last, Math.max(0, n))));
    else return;
    event.preventDefault();
  });
}

if (images) {
  for (const row of document.querySelectorAll("tr[data-label]")) {
    const { label, predicted, total } = row.dataset;
    asButton(row.cells[2], () => openCell(Number(label), Number(predicted), Number(total)), `Show ${count(Number(total))}`);
  }
  for (const row of document.querySelectorAll("tr[data-class]")) {
    asButton(row.cells[0], () => openClass(Number(row.dataset.class)));
  }
  for (const mark of document.querySelectorAll("[data-bin]")) {
    const [low, high, total] = mark.dataset.bin.split(" ").map(Number);
    const action = () => openBin(low, high, total);
    if (mark.tagName === "TR") asButton(mark.cells[0], action);
    else mark.addEventListener("click", action);
  }
}
