"use strict";
// The graph of a network: two panels over one view, stages that fold, a step at a time.
const SVG = "http://www.w3.org/2000/svg";
const TITLE = 26, PAD = 14, BETWEEN = 26, FOLDED = 200;

function made(name, attributes, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes || {})) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

function html(name, text, ...children) {
  const element = document.createElement(name);
  if (text) element.textContent = text;
  element.append(...children);
  return element;
}

function short(text, most) {
  const head = (most - 1) >> 1;
  return text.length <= most ? text : text.slice(0, head) + "…" + text.slice(text.length - (most - 1 - head));
}

class Graph {
  // A network's graph in its section of the page. `memory`, where there is any, is told which nodes are looked at.
  constructor(section, data) {
    this.section = section;
    this.data = data;
    this.step = data.steps.length - 1;
    this.chosen = null;
    this.memory = null;
    this.view = {x: 0, y: 0, k: 1};
    this.panels = {before: section.querySelector("svg.before"), after: section.querySelector("svg.after")};
    const stages = new Set(data.steps.flatMap(step => step.blocks.map(number => data.blocks[number].stage)));
    this.stages = [...stages];
    this.folded = new Set(data.folded ? stages : []);
    this.reasons = this.collectReasons();
    this.bind();
    this.key();
    this.draw();
    this.fit();
    this.say();
  }

  collectReasons() {
    // By node: which step left it alone, and why.
    const found = new Map();
    this.data.steps.forEach((step, at) => step.refusals.forEach(refusal => {
      if (!refusal.node) return;
      if (!found.has(refusal.node)) found.set(refusal.node, []);
      found.get(refusal.node).push({at, rule: step.title, ...refusal});
    }));
    return found;
  }

  // -- drawing ---------------------------------------------------------------------------------------------------

  blocksOf(at) {
    return new Map(this.data.steps[at].blocks.map(number => [this.data.blocks[number].stage, this.data.blocks[number]]));
  }

  draw() {
    const sides = {before: this.blocksOf(0), after: this.blocksOf(this.step)};
    const box = this.data.box, tops = new Map();
    let y = 0, left = -FOLDED / 2, right = FOLDED / 2;
    for (const stage of this.order(sides)) {
      const both = [sides.before.get(stage), sides.after.get(stage)].filter(Boolean);
      const inner = this.folded.has(stage) ? 22 : Math.max(...both.map(block => block.bottom)) + box.height / 2 + PAD;
      tops.set(stage, {y, height: TITLE + inner});
      y += TITLE + inner + BETWEEN;
      if (this.folded.has(stage)) continue;
      left = Math.min(left, ...both.map(block => block.left));
      right = Math.max(right, ...both.map(block => block.right));
    }
    this.extent = {left: left - PAD, right: right + PAD, bottom: y - BETWEEN};
    this.elements = new Map();
    this.places = {before: new Map(), after: new Map()};
    this.links = {before: [], after: []};
    const states = {before: this.states(0), after: this.states(this.step)};
    for (const side of ["before", "after"]) this.drawPanel(side, sides[side], tops, states, side === "before" ? 0 : this.step);
    this.look();
    const title = this.data.steps[this.step].title;
    this.section.querySelector("output").textContent = this.step === 0 ? "nothing" : title;
    this.section.querySelector(".step").setAttribute("aria-valuetext", title);
    if (this.chosen) this.mark("chosen", [this.chosen]);
  }

  order(sides) {
    const after = [...sides.after.keys()], missing = [...sides.before.keys()].filter(stage => !sides.after.has(stage));
    const all = new Set([...after, ...missing]);
    return this.stages.filter(stage => all.has(stage));
  }

  states(at) {
    // Each node's record at a step, by name.
    const found = new Map();
    for (const block of this.blocksOf(at).values())
      for (const [number] of block.nodes) found.set(this.data.nodes[number].name, this.data.nodes[number]);
    return found;
  }

  drawPanel(side, blocks, tops, states, at) {
    const scene = made("g", {class: "scene"}), frames = made("g"), nodes = made("g"), places = this.places[side];
    const paths = [];
    for (const [stage, block] of blocks) {
      const top = tops.get(stage), folded = this.folded.has(stage);
      frames.append(this.frame(stage, block, top, folded));
      if (folded) {
        for (const [number] of block.nodes) places.set(this.data.nodes[number].name, {x: 0, top: top.y, bottom: top.y + top.height, stage});
        continue;
      }
      const down = top.y + TITLE + this.data.box.height / 2 + 4, half = this.data.box.height / 2;
      for (const [number, x, y] of block.nodes) {
        const node = this.data.nodes[number];
        places.set(node.name, {x, top: y + down - half, bottom: y + down + half});
        nodes.append(this.node(node, x, y + down, side, states, at));
      }
      for (const [from, to, ...bends] of block.edges) {
        const ends = [this.data.nodes[from].name, this.data.nodes[to].name];
        const d = this.path(places.get(ends[0]), places.get(ends[1]), bends.map((v, n) => n % 2 ? v + down : v));
        this.links[side].push([...ends, d]);
        paths.push(d);
      }
    }
    const drawn = new Set();
    for (const [from, to] of this.data.steps[at].crossing) {
      const a = places.get(from), b = places.get(to);
      if (!a || !b) continue;
      const far = b.top - a.bottom > 220, d = far ? this.around(a, b) : this.path(a, b, []);
      this.links[side].push([from, to, d]);
      drawn.add(d);
    }
    const over = made("path", {class: "over", d: ""});
    scene.append(frames, made("path", {class: "edges", d: [...paths, ...drawn].join("")}), nodes, over);
    this.panels[side].replaceChildren(scene);
  }

  path(a, b, bends) {
    const points = [];
    for (let n = 0; n < bends.length; n += 2) points.push([bends[n], bends[n + 1]]);
    points.push([b.x, b.top]);
    let [x, y] = [a.x, a.bottom], d = `M${x} ${y}`;
    for (const [toX, toY] of points) {
      const middle = (y + toY) / 2;
      d += toX === x ? `V${toY}` : `C${x} ${middle} ${toX} ${middle} ${toX} ${toY}`;
      [x, y] = [toX, toY];
    }
    return d;
  }

  around(a, b) {
    const side = this.extent.right + 14;
    return `M${a.x} ${a.bottom}C${a.x} ${a.bottom + 26} ${side} ${a.bottom} ${side} ${a.bottom + 40}V${b.top - 40}C${side} ${b.top} ${b.x} ${b.top - 26} ${b.x} ${b.top}`;
  }

  frame(stage, block, top, folded) {
    const left = folded ? -FOLDED / 2 : block.left - PAD, width = folded ? FOLDED : block.right - block.left + 2 * PAD;
    const count = block.nodes.length, said = `${stage} · ${count} node${count === 1 ? "" : "s"}`;
    const title = made("g", {class: "title", tabindex: 0, role: "button", "aria-expanded": String(!folded), "data-stage": stage},
      made("rect", {x: left, y: top.y, width, height: TITLE}));
    const text = made("text", {x: left + 10, y: top.y + 17});
    text.textContent = (folded ? "▸ " : "▾ ") + short(said, 30);
    title.append(text);
    const group = made("g", {class: folded ? "frame folded" : "frame", "data-frame": stage},
      made("rect", {x: left, y: top.y, width, height: top.height, rx: 7}), title);
    if (folded) this.chips(group, block, left, top);
    return group;
  }

  chips(group, block, left, top) {
    // What a folded stage holds: how many nodes each rule made.
    const counts = new Map();
    for (const [number] of block.nodes) {
      const rule = this.data.nodes[number].rule;
      if (rule) counts.set(rule, (counts.get(rule) || 0) + 1);
    }
    let x = left + 12;
    for (const [rule, count] of counts) {
      const chip = made("rect", {x, y: top.y + 27, width: 14, height: 14, rx: 3});
      chip.style.fill = this.data.colours[rule];
      const text = made("text", {x: x + 18, y: top.y + 38});
      text.textContent = `×${count}`;
      group.append(chip, text);
      x += 48;
    }
    if (!counts.size) {
      const last = this.data.nodes[block.nodes[block.nodes.length - 1][0]], text = made("text", {x, y: top.y + 38});
      text.textContent = short(last.shape ? `to ${last.shape}` : last.op, 30);
      group.append(text);
    }
  }

  node(node, x, y, side, states, at) {
    const box = this.data.box, other = states[side === "before" ? "after" : "before"].get(node.name);
    const names = ["node"];
    if (node.rule) names.push("ruled");
    if (side === "before" && !other) names.push("gone");
    else if (side === "after" && other && (other.op !== node.op || other.detail !== node.detail)) names.push("changed");
    const rect = made("rect", {x: x - box.width / 2, y: y - box.height / 2, width: box.width, height: box.height, rx: 5});
    if (node.rule) rect.style.fill = this.data.colours[node.rule];
    const group = made("g", {class: names.join(" "), "data-name": node.name}, rect);
    const lines = [["op", node.op, 22, -3], ["shape", node.shape || node.target || node.name, 26, 11]];
    for (const [kind, said, most, down] of lines) {
      const text = made("text", {class: kind, x, y: y + down});
      text.textContent = short(said, most);
      group.append(text);
    }
    if ((this.reasons.get(node.name) || []).some(reason => reason.at <= at))
      group.append(made("circle", {class: "left-alone", cx: x + box.width / 2 - 9, cy: y - box.height / 2 + 9, r: 4}));
    if (!this.elements.has(node.name)) this.elements.set(node.name, []);
    this.elements.get(node.name).push(group);
    return group;
  }

  key() {
    const key = this.section.querySelector(".key");
    for (const [rule, colour] of Object.entries(this.data.colours)) {
      const swatch = html("i");
      swatch.style.background = colour;
      key.append(html("span", "", swatch, rule));
    }
    for (const [kind, said] of [["gone", "goes"], ["changed", "is another under its name"]]) {
      const swatch = html("i");
      swatch.className = kind;
      key.append(html("span", "", swatch, said));
    }
    key.append(html("span", "○ left alone, with a reason"));
  }

  // -- the view --------------------------------------------------------------------------------------------------

  look() {
    const {x, y, k} = this.view;
    for (const panel of Object.values(this.panels))
      panel.firstChild.setAttribute("transform", `translate(${x} ${y}) scale(${k})`);
  }

  fit() {
    // From the top; as much as can be read, the whole of it where that is so.
    const width = this.panels.after.clientWidth || 400, height = this.panels.after.clientHeight || 400;
    const {left, right, bottom} = this.extent;
    const whole = Math.min(1, Math.max((width - 16) / (right - left), 0.6), Math.max((height - 16) / bottom, 0.8));
    this.view = {k: whole, x: width / 2 - whole * (left + right) / 2, y: 8};
    this.look();
  }

  zoom(factor, at) {
    const panel = this.panels.after, view = this.view;
    const [x, y] = at || [panel.clientWidth / 2, panel.clientHeight / 2];
    const k = Math.min(4, Math.max(0.02, view.k * factor));
    this.view = {k, x: x - (x - view.x) * k / view.k, y: y - (y - view.y) * k / view.k};
    this.look();
  }

  pan(x, y) {
    this.view = {...this.view, x: this.view.x + x, y: this.view.y + y};
    this.look();
  }

  show(name) {
    // Brings a node into the middle.
    const place = this.places.after.get(name) || this.places.before.get(name);
    if (!place) return;
    const panel = this.panels.after, k = Math.max(this.view.k, 0.6);
    this.view = {k, x: panel.clientWidth / 2 - k * place.x, y: panel.clientHeight / 2 - k * place.top};
    this.look();
  }

  // -- what is looked at -----------------------------------------------------------------------------------------

  mark(kind, names) {
    this.section.querySelectorAll(`.${kind}`).forEach(element => element.classList.remove(kind));
    for (const name of names) {
      for (const element of this.elements.get(name) || []) element.classList.add(kind);
      const place = this.places.after.get(name) || this.places.before.get(name);
      if (place && place.stage)
        this.section.querySelectorAll(".frame").forEach(frame => frame.dataset.frame === place.stage && frame.classList.add(kind));
    }
  }

  hover(name) {
    this.mark("lit", name ? [name] : []);
    for (const side of ["before", "after"]) {
      const mine = name ? this.links[side].filter(link => link[0] === name || link[1] === name) : [];
      this.panels[side].querySelector(".over").setAttribute("d", mine.map(link => link[2]).join(""));
    }
    if (this.memory) this.memory.light(name);
  }

  choose(name) {
    this.chosen = name;
    this.mark("chosen", name ? [name] : []);
    if (this.memory) this.memory.light(name);
    this.say();
  }

  fold(stage, folded = !this.folded.has(stage)) {
    if (folded) this.folded.add(stage); else this.folded.delete(stage);
    this.draw();
  }

  go(step) {
    this.step = Math.max(0, Math.min(this.data.steps.length - 1, step));
    this.section.querySelector(".step").value = this.step;
    this.draw();
    this.say();
  }

  next(by) {
    // The next node in order of execution, of those that can be seen.
    const names = [...this.states(this.step).keys()].filter(name => this.elements.has(name));
    if (!names.length) return;
    const at = names.indexOf(this.chosen);
    const name = names[at < 0 ? 0 : (at + by + names.length) % names.length];
    this.choose(name);
    this.show(name);
  }

  say() {
    const said = this.section.querySelector(".said"), step = this.data.steps[this.step];
    const parts = this.chosen ? this.sayNode(this.chosen) : [];
    if (step.rewrites.length) parts.push(html("h4", `${step.title} changed`), this.list(step.rewrites, r => `${r.target}: ${r.before} → ${r.after}`));
    const left = this.data.steps.flatMap((one, at) => at <= this.step ? one.refusals.map(r => ({...r, rule: one.title})) : []);
    if (left.length) parts.push(html("h4", "left alone so far"), this.list(left, r => `${r.target}: ${r.reason} (${r.rule})`));
    if (!parts.length) parts.push(html("p", "nothing was changed or left alone yet"));
    if (!this.chosen) parts.unshift(html("p", "Choose a node to see what is known of it."));
    said.replaceChildren(...parts);
  }

  sayNode(name) {
    const node = this.states(this.step).get(name) || this.states(0).get(name);
    if (!node) return [];
    const facts = html("dl"), rows = [["node", node.name], ["operation", node.op], ["module", node.target], ["arguments", node.detail],
      ["stage", node.stage], ["made by", node.rule], ["for site", node.site], ["shape", node.shape],
      ["elements", node.elements ? node.elements.toLocaleString("en") : ""]];
    if (!this.states(this.step).has(name)) rows.push(["now", "gone"]);
    for (const [what, value] of rows) if (value) facts.append(html("dt", what), html("dd", value));
    const parts = [facts], why = (this.reasons.get(name) || []).filter(reason => reason.at <= this.step);
    const done = this.data.steps.slice(0, this.step + 1).flatMap(step => step.rewrites.filter(r => r.node === name).map(r => ({...r, rule: step.title})));
    if (done.length) parts.push(html("h4", "what was done"), this.list(done, r => `${r.rule}: ${r.before} → ${r.after}`));
    if (why.length) parts.push(html("h4", "left alone"), this.list(why, r => `${r.rule}: ${r.reason}`));
    if (this.memory) parts.push(...this.memory.say(name));
    return parts;
  }

  list(records, text) {
    const items = records.map(record => {
      if (!record.node || record.node === this.chosen) return html("li", text(record));
      const button = html("button", text(record));
      button.type = "button";
      button.addEventListener("click", () => {
        const place = this.places.after.get(record.node) || this.places.before.get(record.node);
        if (place && place.stage) this.fold(place.stage, false);
        this.choose(record.node);
        this.show(record.node);
      });
      return html("li", "", button);
    });
    return html("ul", "", ...items);
  }

  // -- hands -----------------------------------------------------------------------------------------------------

  bind() {
    const find = name => this.section.querySelector(name);
    find(".step").addEventListener("input", event => this.go(Number(event.target.value)));
    find(".fold").addEventListener("click", () => { this.folded = new Set(this.stages); this.draw(); this.fit(); });
    find(".unfold").addEventListener("click", () => { this.folded.clear(); this.draw(); this.fit(); });
    find(".closer").addEventListener("click", () => this.zoom(1.3));
    find(".farther").addEventListener("click", () => this.zoom(1 / 1.3));
    find(".fit").addEventListener("click", () => this.fit());
    for (const panel of Object.values(this.panels)) this.bindPanel(panel);
  }

  bindPanel(panel) {
    const held = new Map();
    let moved = 0;
    panel.addEventListener("pointerdown", event => { held.set(event.pointerId, [event.clientX, event.clientY]); moved = 0; });
    panel.addEventListener("pointermove", event => {
      const before = held.get(event.pointerId);
      if (!before) return;
      const now = [event.clientX, event.clientY], others = [...held].filter(([id]) => id !== event.pointerId);
      moved += Math.abs(now[0] - before[0]) + Math.abs(now[1] - before[1]);
      if (moved > 4 && !panel.hasPointerCapture(event.pointerId)) panel.setPointerCapture(event.pointerId);
      if (others.length) {
        const [x, y] = others[0][1], edge = panel.getBoundingClientRect();
        const far = ([a, b]) => Math.max(Math.hypot(a - x, b - y), 1);
        this.zoom(far(now) / far(before), [(now[0] + x) / 2 - edge.left, (now[1] + y) / 2 - edge.top]);
      } else this.pan(now[0] - before[0], now[1] - before[1]);
      held.set(event.pointerId, now);
    });
    for (const end of ["pointerup", "pointercancel"]) panel.addEventListener(end, event => held.delete(event.pointerId));
    panel.addEventListener("wheel", event => {
      if (!event.ctrlKey && document.activeElement !== panel) return; // the page scrolls
      event.preventDefault();
      const edge = panel.getBoundingClientRect();
      this.zoom(Math.exp(-event.deltaY / 300), [event.clientX - edge.left, event.clientY - edge.top]);
    }, {passive: false});
    panel.addEventListener("pointerover", event => {
      const node = event.target.closest(".node");
      this.hover(node ? node.dataset.name : null);
    });
    panel.addEventListener("pointerleave", () => this.hover(null));
    panel.addEventListener("click", event => {
      if (moved > 4) return;
      const title = event.target.closest(".title") || (event.target.closest(".folded") || panel).querySelector(".folded .title");
      const stage = event.target.closest(".title, .folded") && title ? title.dataset.stage : null;
      if (stage) this.fold(stage);
      else this.choose(event.target.closest(".node") ? event.target.closest(".node").dataset.name : null);
    });
    panel.addEventListener("keydown", event => this.press(event));
  }

  press(event) {
    const title = event.target.closest(".title"), stage = title && title.dataset.stage;
    const place = this.chosen && (this.places.after.get(this.chosen) || this.places.before.get(this.chosen));
    const keys = {
      ArrowLeft: () => this.pan(60, 0), ArrowRight: () => this.pan(-60, 0), ArrowUp: () => this.pan(0, 60), ArrowDown: () => this.pan(0, -60),
      "+": () => this.zoom(1.3), "=": () => this.zoom(1.3), "-": () => this.zoom(1 / 1.3), "0": () => this.fit(),
      n: () => this.next(1), p: () => this.next(-1), Escape: () => this.choose(null),
      f: () => { const node = this.states(this.step).get(this.chosen); if (place && node) this.fold(node.stage); },
    };
    if (stage && (event.key === "Enter" || event.key === " ")) {
      const side = event.currentTarget;
      this.fold(stage);
      [...side.querySelectorAll(".title")].find(one => one.dataset.stage === stage)?.focus();
    } else if (keys[event.key] && !event.ctrlKey && !event.metaKey && !event.altKey) keys[event.key]();
    else return;
    event.preventDefault();
  }
}
