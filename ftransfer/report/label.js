"use strict";
// One image at a time: a click or a key labels it and shows the next one. Labels are kept by content.
const { classes, none, images, key, file } = JSON.parse(document.getElementById("data").textContent);
const at = (id) => document.getElementById(id);
const SKIPPED = -1; // beside the index of a class; `classes.length` is none of these
const choices = [...classes, ...(classes.includes(none) ? [] : [none])];
const NONE = choices.indexOf(none);
const field = at("filter"); // where there are too many classes for a key each
const list = at("classes");
// Classes that are digits have the key of their name; others 1 to 9 and 0 in their order.
const ownDigits = classes.every((name) => /^\d$/.test(name));
const keyOf = (code) => (ownDigits ? classes[code] : code < 10 ? String((code + 1) % 10) : "");
const codeOf = (digit) => classes.findIndex((_, code) => keyOf(code) === digit);

let current = 0;
let labels = new Map(); // of an image's content: the index of a choice, or SKIPPED
const history = []; // what undo takes back: the image, and what it was before

const content = (i) => images[i].sha256 || images[i].path;
const labelOf = (i) => labels.get(content(i));
const isLabelled = (i) => labelOf(i) !== undefined && labelOf(i) !== SKIPPED;
const nameOf = (code) => (code === SKIPPED ? "skipped" : choices[code]);

// ---------------------------------------------------------------- kept in the browser

function restore() {
  try {
    for (const [of, name] of Object.entries(JSON.parse(localStorage.getItem(key)) ?? {})) {
      const code = name === null ? SKIPPED : choices.indexOf(name);
      if (name === null || code >= 0) labels.set(of, code);
    }
  } catch {
    at("kept").textContent = "This browser keeps no labels for this page: save them before you close it.";
  }
}

function keep() {
  try {
    const named = [...labels].map(([of, code]) => [of, code === SKIPPED ? null : choices[code]]);
    localStorage.setItem(key, JSON.stringify(Object.fromEntries(named)));
  } catch {
    at("kept").textContent = "This browser keeps no labels for this page: save them before you close it.";
  }
}

// ---------------------------------------------------------------- what is shown

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [attribute, value] of Object.entries(attributes)) made.setAttribute(attribute, value);
  made.append(...children);
  return made;
}

function show(i, focus = false) {
  current = i;
  const image = images[i];
  at("picture").hidden = !image.picture;
  at("missing").hidden = Boolean(image.picture);
  at("picture").alt = `Image ${i + 1} of ${images.length}`;
  if (image.picture) at("picture").src = image.picture;
  else at("picture").removeAttribute("src");
  at("caption").textContent = `${i + 1} of ${images.length}: ${image.path}`;
  if (field) {
    field.value = "";
    offer();
    if (focus || !matchMedia("(pointer: coarse)").matches) field.focus({ preventScroll: true });
  }
  refresh();
}

function refresh() {
  const done = images.filter((_, i) => isLabelled(i)).length;
  const skipped = images.filter((_, i) => labelOf(i) === SKIPPED).length;
  at("progress").value = done;
  at("counts").textContent = `${done} of ${images.length} labelled${skipped ? `, ${skipped} skipped` : ""}`;
  at("save").disabled = !done;
  at("save").textContent = `Save ${file} (${done} label${done === 1 ? "" : "s"})`;
  at("undo").disabled = !history.length;
  at("back").disabled = current === 0;
  at("forth").disabled = current === images.length - 1;
  at("none").setAttribute("aria-pressed", labelOf(current) === NONE);
  at("skip").setAttribute("aria-pressed", labelOf(current) === SKIPPED);
  if (!field) [...list.children].forEach((button, code) => button.setAttribute("aria-pressed", labelOf(current) === code));
  [...at("strip").children].forEach((item, i) => {
    const button = item.firstChild;
    const said = labelOf(i) === undefined ? "-" : nameOf(labelOf(i));
    button.lastChild.textContent = said;
    button.setAttribute("aria-label", `Image ${i + 1}: ${said === "-" ? "no label" : said}`);
    button.setAttribute("aria-current", i === current);
  });
}

function say(text) {
  at("status").textContent = text;
}

// ---------------------------------------------------------------- labelling

function nextOpen() {
  const order = images.map((_, i) => (current + 1 + i) % images.length);
  return order.find((i) => labelOf(i) === undefined);
}

function choose(code) {
  history.push([current, labelOf(current)]);
  labels.set(content(current), code);
  keep();
  const open = nextOpen();
  const last = `Image ${current + 1}: ${nameOf(code)}.`;
  if (open === undefined) {
    show(current);
    say(`${last} All images are done: save the labels.`);
    at("save").focus({ preventScroll: true });
    at("save").scrollIntoView({ block: "nearest", behavior: "instant" });
  } else {
    show(open);
    say(last);
  }
}

function undo() {
  if (!history.length) return;
  const [i, before] = history.pop();
  if (before === undefined) labels.delete(content(i));
  else labels.set(content(i), before);
  keep();
  show(i);
  say(`Undone: image ${i + 1} is ${before === undefined ? "without a label" : nameOf(before)} again.`);
}

function step(by) {
  const i = current + by;
  if (i >= 0 && i < images.length) {
    show(i);
    say("");
  }
}

// ---------------------------------------------------------------- many classes: found by typing

let found = [];
let first = -1; // the one that Enter chooses

function offer() {
  const typed = field.value.trim().toLowerCase();
  const score = (name) => (name === typed ? 0 : name.startsWith(typed) ? 1 : name.includes(typed) ? 2 : 3);
  const scored = choices.map((name, code) => [score(name.toLowerCase()), code]);
  found = scored.filter(([s]) => s < 3).sort(([a, i], [b, j]) => a - b || i - j).map(([, code]) => code);
  first = typed && found.length ? 0 : -1;
  list.replaceChildren(
    ...found.map((code) => {
      const item = element("li", { role: "option", id: `class-${code}` }, choices[code]);
      if (labelOf(current) === code) item.className = "is";
      item.addEventListener("click", () => choose(code));
      return item;
    }),
  );
  if (!found.length) list.append(element("li", { role: "presentation" }, "No class has this in its name."));
  mark();
}

function mark() {
  [...list.children].forEach((item, i) => {
    const on = i === first;
    item.classList.toggle("first", on);
    item.setAttribute("aria-selected", on);
    if (on) item.scrollIntoView({ block: "nearest", behavior: "instant" });
  });
  if (first >= 0) field.setAttribute("aria-activedescendant", `class-${found[first]}`);
  else field.removeAttribute("aria-activedescendant");
}

function keyInField(event) {
  const move = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (move && found.length) first = Math.min(found.length - 1, Math.max(0, first + move));
  else if (event.key === "Enter" && first >= 0) choose(found[first]);
  else if (event.key === "Escape" && field.value) offer((field.value = ""));
  else return false;
  if (move) mark();
  return true;
}

// ---------------------------------------------------------------- keys

function onKey(event) {
  const typing = event.target === field;
  if (typing && keyInField(event)) return event.preventDefault();
  if (!at("keys").checked || (typing && field.value)) return;
  const isUndo = (event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z";
  if (!isUndo && (event.ctrlKey || event.metaKey || event.altKey)) return;
  if (isUndo) undo();
  else if (event.key === "ArrowLeft") step(-1);
  else if (event.key === "ArrowRight") step(1);
  else if (field) return;
  else if (/^\d$/.test(event.key) && codeOf(event.key) >= 0) choose(codeOf(event.key));
  else if (event.key === "n") choose(NONE);
  else if (event.key === "s") choose(SKIPPED);
  else if (event.key === "u" || event.key === "Backspace") undo();
  else return;
  event.preventDefault();
}

// ---------------------------------------------------------------- labels.csv

function cell(value) {
  const text = String(value ?? "");
  return /^[\w./ -]*\w$/.test(text) && !/^ /.test(text) ? text : `"${text.replaceAll('"', '""')}"`;
}

function asTable() {
  const columns = ["root", "path"].filter((name) => name in images[0]);
  const rows = images.flatMap((image, i) =>
    isLabelled(i) ? [[...columns.map((name) => image[name]), choices[labelOf(i)], image.why, image.sha256]] : [],
  );
  return [[...columns, "label", "why", "sha256"], ...rows].map((row) => row.map(cell).join(",") + "\n").join("");
}

function save() {
  const link = element("a", { download: file });
  link.href = URL.createObjectURL(new Blob([asTable()], { type: "text/csv" }));
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  const open = images.filter((_, i) => labelOf(i) === undefined).length;
  say(`Saved ${file} to your downloads.${open ? ` ${open} images have no label yet.` : ""}`);
}

function clear() {
  if (!confirm("Clear the labels of all images on this page?")) return;
  images.forEach((_, i) => labels.delete(content(i)));
  history.length = 0;
  keep();
  show(0);
  say("All labels are cleared.");
}

// ---------------------------------------------------------------- the page

if (field) field.addEventListener("input", offer);
else {
  classes.forEach((name, code) => {
    const button = element("button", { type: "button", "aria-keyshortcuts": keyOf(code) }, element("kbd", {}, keyOf(code)), element("span", {}, name));
    button.addEventListener("click", () => choose(code));
    list.append(button);
  });
}
images.forEach((image, i) => {
  const picture = image.picture ? element("img", { src: image.picture, alt: "", loading: "lazy" }) : element("div", { class: "blank" });
  const button = element("button", { type: "button" }, picture, element("span", { "aria-hidden": "true" }));
  button.addEventListener("click", () => {
    show(i, true);
    at("question").scrollIntoView({ block: "nearest", behavior: "instant" });
  });
  at("strip").append(element("li", {}, button));
});
for (const [id, action] of Object.entries({ none: () => choose(NONE), skip: () => choose(SKIPPED), undo, back: () => step(-1), forth: () => step(1), save, clear })) {
  at(id).addEventListener("click", action);
}
document.addEventListener("keydown", onKey);
restore();
const open = images.findIndex((_, i) => labelOf(i) === undefined);
show(Math.max(0, open));
if (labels.size) say(images.some((_, i) => labelOf(i) !== undefined) ? "Labels from before are here again." : "");
