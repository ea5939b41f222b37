// The map: hover or tap shows the image, wheel and pinch zoom, the legend and the buttons filter, keys move in it.
const mapHolder = document.getElementById("map-data");
const mapped = mapHolder && images && JSON.parse(mapHolder.textContent);
const SVG = "http" + "://www.w3.org/2000/svg"; // a name, nothing is asked of it
const SHAPES = { dots: "M0 0h0", solid: "M0-4.2l3.8 6.6h-7.6z", hollow: "M0-4.2l3.8 6.6h-7.6z" };
const SIDE = 480; // of the picture, in its own units
const MOST_ZOOM = 40;

if (mapped) {
  const shown = { classes: new Set(), domains: new Set(images.domains.keys()), mistakes: false, byDomain: false };
  const maps = [...document.querySelectorAll("svg.points")].map((svg, which) => makeMap(svg, mapped.maps[which]));
  let picked = null; // the image that is shown, by its place in the sample
  let pinned = false;

  function hueOf(code) {
    return mapped.hues[code] ?? "grey";
  }

  function makeMap(svg, { points, by }) {
    const map = { svg, points, k: 1, x: 0, y: 0, marks: [], pointers: new Map() };
    const codeOf = (i) => (isTarget(i) ? images[by][i] : images.label[i]);
    svg.querySelectorAll("path").forEach((path) => path.remove());
    const layer = document.createElementNS(SVG, "g");
    svg.prepend(layer);
    points.forEach(([x, y], p) => {
      const i = mapped.images[p];
      const wrong = isTarget(i) && images.label[i] !== -1 && images.label[i] !== codeOf(i);
      const shape = isTarget(i) ? (wrong ? "hollow" : "solid") : "dots";
      const node = document.createElementNS(SVG, "path");
      node.setAttribute("d", SHAPES[shape]);
      layer.append(node);
      map.marks.push({ i, x, y, node, shape, wrong, hue: hueOf(codeOf(i)), visible: true });
    });
    map.names = [...svg.querySelectorAll(".names text")].map((node) => ({ node, x: +node.getAttribute("x"), y: +node.getAttribute("y") }));
    map.ring = document.createElementNS(SVG, "circle");
    map.ring.setAttribute("class", "ring");
    map.ring.setAttribute("r", "9");
    map.ring.setAttribute("visibility", "hidden");
    svg.append(map.ring);
    const frame = element("div", { class: "frame" });
    svg.before(frame);
    map.card = element("div", { class: "card", role: "status", hidden: "" });
    const zoom = element("div", { class: "zoom" });
    for (const [text, said, action] of [["+", "Zoom in", () => zoomAt(map, 1.6)], ["−", "Zoom out", () => zoomAt(map, 1 / 1.6)], ["⤢", "Show all", () => reset(map)]]) {
      const button = element("button", { type: "button", "aria-label": said, title: said }, text);
      button.addEventListener("click", action);
      zoom.append(button);
    }
    frame.append(svg, zoom, map.card);
    svg.classList.add("live");
    svg.setAttribute("tabindex", "0");
    svg.setAttribute("role", "application");
    svg.setAttribute("aria-label", `${svg.getAttribute("aria-label")} Arrow keys go to the next image, plus and minus zoom, zero shows all, Enter keeps the image shown, Escape lets it go.`);
    return map;
  }

  // ---- what is drawn where

  function place(map) {
    const limit = SIDE * (map.k - 1);
    map.x = Math.min(0, Math.max(-limit, map.x));
    map.y = Math.min(0, Math.max(-limit, map.y));
    const size = Math.min(1.6, Math.sqrt(map.k) ** 0.5);
    const at = ({ x, y }) => `translate(${(map.k * x + map.x).toFixed(1)} ${(map.k * y + map.y).toFixed(1)})`;
    for (const mark of map.marks) mark.node.setAttribute("transform", `${at(mark)} scale(${size.toFixed(2)})`);
    for (const name of map.names) {
      name.node.setAttribute("x", map.k * name.x + map.x);
      name.node.setAttribute("y", map.k * name.y + map.y);
    }
    const mark = map.marks.find(({ i }) => i === picked);
    if (mark) map.ring.setAttribute("transform", at(mark));
    map.svg.classList.toggle("zoomed", map.k > 1.01);
  }

  function zoomAt(map, factor, x = SIDE / 2, y = SIDE / 2) {
    const k = Math.min(MOST_ZOOM, Math.max(1, map.k * factor));
    map.x = x - ((x - map.x) * k) / map.k;
    map.y = y - ((y - map.y) * k) / map.k;
    map.k = k;
    place(map);
  }

  function reset(map) {
    Object.assign(map, { k: 1, x: 0, y: 0 });
    place(map);
  }

  function filter() {
    let visible = 0;
    for (const map of maps) {
      for (const mark of map.marks) {
        const { i, node } = mark;
        const hue = shown.byDomain ? `c${images.domain[i] % 12}` : mark.hue === "grey" ? "c-grey" : `c${mark.hue}`;
        const inClass = !shown.classes.size || shown.classes.has(mark.hue === "grey" ? "c-grey" : `c${mark.hue}`);
        mark.visible = shown.domains.has(images.domain[i]) && (!shown.mistakes || mark.wrong);
        node.setAttribute("class", `${hue} ${mark.shape}${inClass ? " on" : ""}`);
        node.toggleAttribute("hidden", !mark.visible);
        node.style.display = mark.visible ? "" : "none";
        mark.visible &&= inClass;
        if (map === maps.at(-1)) visible += mark.visible;
      }
      map.svg.classList.toggle("alone", shown.classes.size > 0);
      for (const { node } of map.names) node.classList.toggle("on", shown.classes.has(node.classList[0]));
    }
    status.textContent = `${count(visible)} shown`;
  }

  // ---- which image is shown

  function show(map, mark) {
    picked = mark ? mark.i : null;
    for (const each of maps) {
      const same = each.marks.find(({ i }) => i === picked);
      each.ring.setAttribute("visibility", same ? "visible" : "hidden");
      each.card.hidden = !(mark && each === map);
      place(each);
    }
    if (!mark) return;
    map.card.replaceChildren(...describe(mark.i));
    map.card.classList.toggle("left", map.k * mark.x + map.x > SIDE / 2);
  }

  function nearest(map, event) {
    const box = map.svg.getBoundingClientRect();
    const scale = SIDE / box.width;
    const [x, y] = [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
    const reach = (event.pointerType === "mouse" ? 12 : 24) * scale;
    let best = null;
    for (const mark of map.marks) {
      if (!mark.visible) continue;
      const distance = Math.hypot(map.k * mark.x + map.x - x, map.k * mark.y + map.y - y);
      if (distance < (best?.distance ?? reach)) best = { mark, distance };
    }
    return best?.mark ?? null;
  }

  // The next visible image in a direction, the nearer to the axis the better.
  function next(map, dx, dy) {
    const from = map.marks.find(({ i }) => i === picked);
    const start = from ?? { x: (SIDE / 2 - map.x) / map.k, y: (SIDE / 2 - map.y) / map.k };
    let best = null;
    for (const mark of map.marks) {
      if (!mark.visible || mark === from) continue;
      const [x, y] = [mark.x - start.x, mark.y - start.y];
      const along = x * dx + y * dy;
      const across = Math.abs(x * dy) + Math.abs(y * dx);
      if (from && (along <= 0 || across > 2 * along)) continue;
      const distance = from ? along + 2 * across : Math.hypot(x, y);
      if (distance < (best?.distance ?? Infinity)) best = { mark, distance };
    }
    if (!best) return;
    const { mark } = best;
    const [x, y] = [map.k * mark.x + map.x, map.k * mark.y + map.y];
    if (x < 0 || x > SIDE) map.x = SIDE / 2 - map.k * mark.x;
    if (y < 0 || y > SIDE) map.y = SIDE / 2 - map.k * mark.y;
    show(map, mark);
  }

  // ---- pointers, wheel and keys

  for (const map of maps) {
    const { svg, pointers } = map;
    const at = (event) => {
      const box = svg.getBoundingClientRect();
      return [((event.clientX - box.left) * SIDE) / box.width, ((event.clientY - box.top) * SIDE) / box.width];
    };
    let moved = false;
    svg.addEventListener("wheel", (event) => {
      if (event.deltaY > 0 && map.k <= 1) return; // all is shown: the page scrolls on
      event.preventDefault();
      zoomAt(map, Math.exp(-Math.max(-120, Math.min(120, event.deltaY)) / 250), ...at(event));
    }, { passive: false });
    svg.addEventListener("pointerdown", (event) => {
      if (!pointers.size) moved = false;
      pointers.set(event.pointerId, at(event));
      svg.setPointerCapture(event.pointerId);
    });
    svg.addEventListener("pointermove", (event) => {
      const before = pointers.get(event.pointerId);
      if (!before) {
        if (!pinned) show(map, nearest(map, event));
        return;
      }
      const now = at(event);
      if (pointers.size === 2) {
        const other = [...pointers].find(([id]) => id !== event.pointerId)[1];
        const distance = (a, b) => Math.hypot(a[0] - b[0], a[1] - b[1]);
        zoomAt(map, distance(now, other) / Math.max(1, distance(before, other)), ...other);
        moved = true;
      } else if (moved || Math.hypot(now[0] - before[0], now[1] - before[1]) > 4) {
        map.x += now[0] - before[0];
        map.y += now[1] - before[1];
        place(map);
        moved = true;
      } else return;
      pointers.set(event.pointerId, now);
    });
    const lift = (event) => {
      const was = pointers.delete(event.pointerId);
      if (event.type !== "pointerup" || !was || moved) return;
      const mark = nearest(map, event);
      pinned = Boolean(mark) && !(pinned && mark.i === picked);
      show(map, mark);
    };
    svg.addEventListener("pointerup", lift);
    svg.addEventListener("pointercancel", lift);
    svg.addEventListener("pointerleave", () => !pinned && !pointers.size && show(map, null));
    svg.addEventListener("blur", () => !pinned && show(map, null));
    svg.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
      if (step) next(map, ...step);
      else if (event.key === "+" || event.key === "=") zoomAt(map, 1.6);
      else if (event.key === "-") zoomAt(map, 1 / 1.6);
      else if (event.key === "0") reset(map);
      else if (event.key === "Enter") pinned = picked !== null && !pinned;
      else if (event.key === "Escape") { pinned = false; show(map, null); }
      else return;
      event.preventDefault();
    });
  }

  // ---- the buttons above the maps, and the legend

  const tools = element("div", { class: "tools", role: "group", "aria-label": "What the map shows" });
  const toggle = (text, pressed, change) => {
    const button = element("button", { type: "button", "aria-pressed": String(pressed) }, text);
    button.addEventListener("click", () => {
      const on = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", String(on));
      change(on);
      filter();
    });
    tools.append(button);
    return button;
  };
  images.domains.forEach((name, d) => {
    const what = d === images.domains.length - 1 ? "target" : "source";
    const button = toggle(`${name} (${what})`, true, (on) => (on ? shown.domains.add(d) : shown.domains.delete(d)));
    button.prepend(element("span", { class: `swatch c${d % 12}` }));
  });
  if (maps.some((map) => map.marks.some((mark) => mark.wrong))) toggle("only mistakes", false, (on) => (shown.mistakes = on));
  toggle("coloured by domain", false, (on) => {
    shown.byDomain = on;
    tools.classList.toggle("by-domain", on);
  });
  const status = element("span", { class: "soft", role: "status" });
  tools.append(status);
  maps[0].svg.closest("figure").parentElement.before(tools);
  for (const item of document.querySelectorAll(".legend [data-class]")) {
    const button = element("button", { type: "button", "aria-pressed": "false" });
    button.append(...item.childNodes);
    item.append(button);
    button.addEventListener("click", () => {
      const on = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", String(on));
      if (on) shown.classes.add(item.dataset.class);
      else shown.classes.delete(item.dataset.class);
      filter();
    });
  }
  filter();
  maps.forEach(place);
}
