"""The style and the script of pages: both are written into the page, which loads nothing."""

STYLE = """
:root { color-scheme: light dark; --ink: #101828; --soft: #667085; --line: #d0d5dd; --back: #fff;
  --card: #f9fafb; --blue: #0082c8; --red: #b42318; --green: #067647; }
@media (prefers-color-scheme: dark) { :root { --ink: #eaecf0; --soft: #98a2b3; --line: #344054;
  --back: #0c111d; --card: #161b26; --blue: #36bffa; --red: #f97066; --green: #47cd89; } }
* { box-sizing: border-box; }
[hidden] { display: none !important; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1240px; margin: 0 auto; color: var(--ink);
  background: var(--back); padding: 1.5em 1em 4em; overflow-wrap: anywhere; }
h1 { font-size: 1.7em; margin: 0 0 .3em; }
h2 { font-size: 1.25em; margin: 2.4em 0 .3em; padding-top: .8em;
  border-top: 1px solid var(--line); }
h3 { font-size: 1em; margin: 1.6em 0 .4em; }
p { margin: .4em 0; } .note { color: var(--soft); font-size: .87em; }
nav { display: flex; flex-wrap: wrap; gap: .2em 1.2em; margin: .8em 0; }
a { color: var(--blue); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; margin: .6em 0; font-variant-numeric: tabular-nums; }
th, td { padding: .35em .8em .35em 0; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: middle; }
td.number, th.number { text-align: right; white-space: nowrap; }
th { color: var(--soft); font-weight: 600; font-size: .87em; white-space: nowrap; }
th button { all: unset; cursor: pointer; }
th button:focus-visible, .tools :focus-visible { outline: 2px solid var(--blue); }
th button::after { content: " ↕"; opacity: .45; }
th[aria-sort=ascending] button::after { content: " ↑"; opacity: 1; }
th[aria-sort=descending] button::after { content: " ↓"; opacity: 1; }
svg.plot { display: block; width: 180px; height: 16px; overflow: visible; }
.track { fill: var(--line); opacity: .6; } .bar { fill: var(--blue); opacity: .8; }
.ends { stroke: var(--ink); fill: none; } .published { fill: var(--red); }
.tools { display: flex; flex-wrap: wrap; gap: .5em; align-items: center; margin: .8em 0; }
.tools input, .tools select, .tools button { font: inherit; font-size: .92em; padding: .25em .6em;
  border: 1px solid var(--line); border-radius: 6px; background: var(--back); color: inherit;
  max-width: 100%; }
.tools button { cursor: pointer; border-radius: 99px; }
.tools button[aria-pressed=true] { background: var(--blue); border-color: var(--blue);
  color: var(--back); }
.tools output { color: var(--soft); font-size: .87em; }
.gallery { display: grid; gap: 1em; align-items: start;
  grid-template-columns: repeat(auto-fill, minmax(min(270px, 100%), 1fr)); }
.card { border: 1px solid var(--line); border-radius: 10px; background: var(--card);
  overflow: hidden; }
.picture { position: relative; margin: 0 auto; aspect-ratio: var(--ratio);
  width: min(100%, calc(330px * var(--ratio))); }
.picture img { width: 100%; height: 100%; display: block; }
.box { position: absolute; border: 2px solid var(--run); }
.box.expected { border-style: dashed; }
.box b { position: absolute; left: -2px; bottom: 100%; background: var(--run); color: #fff;
  font: 600 11px/1.3 system-ui, sans-serif; padding: 0 4px; white-space: nowrap;
  max-width: 12em; overflow: hidden; text-overflow: ellipsis; }
.card section { padding: .5em .8em .6em; border-top: 1px solid var(--line); }
.card p { margin: .15em 0; } .prompt { font-weight: 600; }
.tag, .score { font-size: .78em; font-weight: 400; color: var(--soft); white-space: nowrap; }
.tag { border: 1px solid var(--line); border-radius: 99px; padding: .05em .6em; }
.answer b { border-left: 4px solid var(--run); padding-left: .4em; font-size: .85em; }
.answer.right q { color: var(--green); } .answer.right q::before { content: "✓ "; }
.answer.wrong q { color: var(--red); } .answer.wrong q::before { content: "✗ "; }
q { quotes: none; } .expected { color: var(--soft); } .expected b { font-size: .85em; }
@media (max-width: 640px) {
  table, tbody, tr, thead { display: block; }
  thead tr { display: flex; flex-wrap: wrap; gap: 0 1em; }
  thead th { border: 0; padding: .1em 0; } th:empty, th.plot { display: none; }
  tbody tr { display: flex; flex-wrap: wrap; gap: 0 1em; padding: .6em 0;
    border-bottom: 1px solid var(--line); }
  td { border: 0; padding: 0; } td:empty { display: none; } td:first-child { font-weight: 600; }
  td.number::before { content: attr(data-label) " "; color: var(--soft); font-size: .87em; }
  td.plot { flex: 1 0 100%; order: 1; padding: .3em 0; }
  svg.plot { width: 100%; }
}
"""

SCRIPT = """
"use strict";
const add = (parent, tag, more = {}) =>
  parent.appendChild(Object.assign(document.createElement(tag), more));
const texts = (rows, i) => rows.map(row => row.cells[i].textContent);
const toolbar = before => {
  const bar = document.createElement("div");
  bar.className = "tools";
  before.before(bar);
  return bar;
};
const search = (bar, label, onChange) => {
  const field = add(bar, "input", { type: "search", placeholder: label, ariaLabel: label });
  field.addEventListener("input", onChange);
  return row => row.textContent.toLowerCase().includes(field.value.trim().toLowerCase());
};
const menu = (bar, label, options, onChange) => {
  const list = add(bar, "select", { ariaLabel: label });
  for (const [value, text] of options) add(list, "option", { value, textContent: text });
  list.addEventListener("change", onChange);
  return list;
};

// A click on a header sorts: numbers first downwards, texts upwards, empty cells always last.
const sortable = table => {
  const body = table.tBodies[0], rows = [...body.rows], heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, i) => {
    if (!head.textContent || rows.length < 2) return;
    const button = document.createElement("button");
    button.textContent = head.textContent;
    head.replaceChildren(button);
    const numeric = head.classList.contains("number");
    button.onclick = () => {
      const now = head.ariaSort;
      const down = now ? now === "ascending" : numeric;
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const key = row => row.cells[i].textContent;
      const compare = (a, b) => numeric
        ? parseFloat(a.replaceAll(",", "")) - parseFloat(b.replaceAll(",", ""))
        : a.localeCompare(b, undefined, { numeric: true });
      body.append(...[...rows].sort((a, b) =>
        !key(a) - !key(b) || (down ? -1 : 1) * compare(key(a), key(b))));
    };
  });
};

// A field and, for columns with few values, menus say which rows of a table are shown.
const filterable = table => {
  const rows = [...table.tBodies[0].rows], bar = toolbar(table.parentElement);
  const menus = [];
  const update = () => {
    for (const row of rows) row.hidden = !matches(row) || menus.some(
      ([i, list]) => list.value && row.cells[i].textContent !== list.value);
    count.textContent = `${rows.filter(row => !row.hidden).length} of ${rows.length} rows`;
  };
  const matches = search(bar, "filter rows", update);
  [...table.tHead.rows[0].cells].forEach((head, i) => {
    const values = [...new Set(texts(rows, i))].filter(Boolean), name = head.textContent;
    if (head.className || values.length < 2 || values.length > rows.length / 2) return;
    const options = [["", `every ${name}`], ...values.map(value => [value, value])];
    menus.push([i, menu(bar, name, options, update)]);
  });
  const count = add(bar, "output");
  update();
};

// Buttons choose a group of examples, a field searches in them, a menu orders them.
const browsable = gallery => {
  const cards = [...gallery.children], bar = toolbar(gallery);
  const questions = [...gallery.querySelectorAll("section")];
  const tagged = [0, 1, 2].flatMap(i => questions.map(each => each.dataset.tags.split("|")[i]));
  const tags = [...new Set(tagged)].filter(Boolean);
  let chosen = "";
  const update = () => {
    for (const each of questions) each.hidden = !matches(each) ||
      (chosen && !each.dataset.tags.split("|").includes(chosen));
    for (const card of cards) card.hidden = !card.querySelector("section:not([hidden])");
    const shown = questions.filter(each => !each.hidden).length;
    count.textContent = `${shown} of ${questions.length} examples`;
  };
  const buttons = ["", ...tags].map(tag => {
    const button = add(bar, "button", { textContent: tag || "all", ariaPressed: String(!tag) });
    button.onclick = () => {
      chosen = tag;
      for (const other of buttons) other.ariaPressed = String(other === button);
      update();
    };
    return button;
  });
  const matches = search(bar, "search in examples", update);
  const score = card => Math.min(...[...card.querySelectorAll("section")].map(
    each => parseFloat(each.dataset.score || "Infinity")));
  const order = menu(bar, "order", [["", "as chosen"], ["1", "lowest score first"],
    ["-1", "highest score first"]], () => gallery.append(...(order.value ? [...cards].sort(
      (a, b) => (score(a) - score(b)) * order.value || 0) : cards)));
  const count = add(bar, "output");
  update();
};

for (const table of document.querySelectorAll("table")) {
  if (table.tBodies[0].rows.length > 5) filterable(table);
  sortable(table);
}
document.querySelectorAll(".gallery").forEach(browsable);
"""
