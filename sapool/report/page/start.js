"use strict";
// Graphs and plots come to life when they are first seen; what is hovered in one is lit in the other.
const report = JSON.parse(document.getElementById("data").textContent);
const graphs = [];
const dark = matchMedia("(prefers-color-scheme: dark)");

class Memory {
  // The arenas of a network beside its graph.
  constructor(section, graph, network) {
    this.section = section;
    this.graph = graph;
    this.arenas = network.arenas;
    this.owners = network.owners;
    this.shown = 0;
    for (const button of section.querySelectorAll(".memory button"))
      button.addEventListener("click", () => this.choose(Number(button.dataset.arena)));
  }

  choose(number) {
    this.shown = number;
    for (const button of this.section.querySelectorAll(".memory button"))
      button.setAttribute("aria-pressed", String(Number(button.dataset.arena) === number));
    for (const arena of this.section.querySelectorAll(".arena")) arena.hidden = Number(arena.dataset.arena) !== number;
    this.graph.say();
  }

  owner(name) {
    const owners = this.owners[this.shown];
    return Object.hasOwn(owners, name) ? owners[name] : name;
  }

  buffersOf(name) {
    // Those that a node writes: numbers in the arena's table.
    const arena = this.arenas[this.shown], at = arena.nodes.indexOf(this.owner(name));
    return at < 0 ? [] : arena.writers.flatMap((nodes, number) => nodes.includes(at) ? [number] : []);
  }

  source() {
    const place = this.section.querySelector(`.arena[data-arena="${this.shown}"] .plot`);
    return place && place.sapoolDocument ? place.sapoolDocument.get_model_by_name("buffers") : null;
  }

  light(name) {
    const source = this.source(), wanted = name || this.graph.chosen;
    if (source) source.selected.indices = wanted ? this.buffersOf(wanted) : [];
    this.section.dataset.litBuffers = wanted ? this.buffersOf(wanted).length : 0;
  }

  over(numbers) {
    // Buffers under the pointer light the nodes whose results lie in them.
    const arena = this.arenas[this.shown], names = new Set(numbers.flatMap(number => arena.writers[number].map(at => arena.nodes[at])));
    this.graph.mark("lit", [...names]);
  }

  say(name) {
    const arena = this.arenas[this.shown], numbers = this.buffersOf(name), owner = this.owner(name), source = this.source();
    if (!numbers.length || !source) return [];
    const {size, bottom, left, right} = source.data, most = 6, many = number => number.toLocaleString("en");
    const items = numbers.slice(0, most).map(at =>
      html("li", `${many(size[at])} bytes at ${many(bottom[at])}, steps ${left[at] + 0.5}–${right[at] - 0.5}`));
    if (numbers.length > most) items.push(html("li", `and ${numbers.length - most} more`));
    const title = owner === name ? `buffers, ${arena.title}` : `buffers of ${owner}, in which it is done`;
    return [html("h4", title), html("ul", "", ...items)];
  }
}

function embed(place) {
  if (place.sapoolDrawn) return;
  place.sapoolDrawn = true;
  place.dataset.scheme = dark.matches && !matchMedia("print").matches ? "dark" : "light";
  Bokeh.embed.embed_item(report.plots[Number(place.dataset.plot)], place).then(views => {
    const view = views.roots ? views.roots[0] : Object.values(views)[0];
    place.sapoolDocument = view ? view.model.document : Bokeh.documents[Bokeh.documents.length - 1];
    place.dataset.drawn = "yes";
    const section = place.closest("section.network"), graph = section && graphs[Number(section.dataset.number)];
    if (graph) graph.choose(graph.chosen);
  });
}

window.sapoolOver = (network, numbers) => graphs[network] && graphs[network].memory && graphs[network].memory.over(numbers);

const watcher = new IntersectionObserver(seen => {
  for (const {isIntersecting, target} of seen) {
    if (!isIntersecting) continue;
    watcher.unobserve(target);
    if (target.classList.contains("plot")) { embed(target); continue; }
    const number = Number(target.dataset.number), network = report.networks[number];
    const graph = graphs[number] = new Graph(target, network.graph);
    if (network.arenas) graph.memory = new Memory(target, graph, network);
    target.dataset.drawn = "yes";
  }
}, {rootMargin: "400px"});
document.querySelectorAll("section.network, .plot").forEach(target => watcher.observe(target));

// Canvases read their colours when they are drawn; on paper those that were drawn dark are turned by the style.
dark.addEventListener("change", () => document.querySelectorAll(".plot[data-drawn]").forEach(place => {
  if (matchMedia("print").matches) return;
  place.replaceChildren();
  place.sapoolDrawn = false;
  embed(place);
}));

for (const table of document.querySelectorAll("table.sortable")) {
  table.querySelectorAll("th").forEach((head, column) => {
    const button = html("button", head.textContent);
    button.type = "button";
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending", body = table.tBodies[0];
      const value = row => { const text = row.cells[column].textContent.replaceAll(",", ""); return text !== "" && !isNaN(text) ? Number(text) : text; };
      const rows = [...body.rows].sort((a, b) => { const [x, y] = [value(a), value(b)]; return (typeof x === typeof y ? x < y : typeof x === "number") ? -1 : x === y ? 0 : 1; });
      body.append(...(down ? rows.reverse() : rows));
      table.querySelectorAll("th").forEach(other => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
    });
  });
}
