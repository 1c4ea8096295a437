"use strict";
// Pages are whole without this script. It adds the dark mode's switch and, on a board, sorting,
// filtering, comparing and downloads. What a board shows is kept in the address: the hash is the
// state, every change goes through it, and so links and the back button work.

const $ = (id) => document.getElementById(id);

function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

function draw(tag, attributes) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  return node;
}

// ---- Dark mode: the system's wish, unless a choice was made. Storage may be forbidden. ----

const theme = {
  read() {
    try { return localStorage.getItem("theme"); } catch { return null; }
  },
  write(value) {
    try { localStorage.setItem("theme", value); } catch { /* it holds for this page then */ }
  },
  isDark() {
    const chosen = document.documentElement.dataset.theme;
    return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  },
};

// Before the page is drawn, so that it does not flash.
if (["dark", "light"].includes(theme.read())) document.documentElement.dataset.theme = theme.read();

function offerTheme() {
  const button = $("theme");
  const show = () => { button.textContent = theme.isDark() ? "Light mode" : "Dark mode"; };
  button.addEventListener("click", () => {
    const wanted = theme.isDark() ? "light" : "dark";
    document.documentElement.dataset.theme = wanted;
    theme.write(wanted);
    show();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);
  show();
  button.hidden = false;
}

// ---- Commands and citations can be copied, where the browser lets a page do so. ----

function offerCopies() {
  if (!navigator.clipboard) return;
  for (const block of document.querySelectorAll("pre")) {
    const button = make("button", { type: "button", class: "copy" }, "Copy");
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(block.textContent);
        button.textContent = "Copied";
      } catch {
        button.textContent = "Select and copy";
      }
    });
    block.before(button);
  }
}

// ---- A board ----

const MOST = 4; // compared at a time
const DEFAULTS = {
  q: "", family: "", verified: "", flagged: "", whose: "", sort: "rank", order: "ascending",
  hide: "", open: "", pick: "", view: "", goal: "ignore", eps: "",
};
// What a flag or a failed verification makes doubtful: doubtful rows then come last, either way.
const isScore = (key) => ["area", "target"].includes(key) || key.startsWith("eps");
const FILTERS = ["q", "family", "verified", "flagged", "whose"];

function startBoard() {
  const data = JSON.parse($("data").textContent);
  const table = $("board");
  const heads = [...table.tHead.rows[0].cells];
  const lines = [...table.tBodies[0].rows]; // of models, and of recipes before their seeds
  const recipes = lines.filter((line) => line.classList.contains("recipe"));
  const rows = lines.filter((line) => !recipes.includes(line));
  const byId = new Map(rows.map((row) => [row.dataset.id, row]));
  const keys = heads.map((head) => head.dataset.key);
  const text = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));
  DEFAULTS.eps = String(data.eps.length - 1);
  let now = read();
  let viewed = null; // the view that is drawn: focus moves only when it changes

  // -- The state: what the address says, and nothing that it should not --

  function read() {
    const given = new URLSearchParams(location.hash.slice(1));
    const found = { ...DEFAULTS };
    for (const key of Object.keys(found)) if (given.has(key)) found[key] = given.get(key);
    // Who is picked may be further down than this page goes.
    const picked = found.pick.split(",").filter(Boolean);
    if ($("all") && picked.some((id) => !byId.has(id))) location.replace(`all.html${location.hash}`);
    found.hide = found.hide.split(",").filter((key) => keys.includes(key));
    found.open = found.open.split(",").filter((id) => recipes.some((line) => line.dataset.recipe === id));
    found.pick = [...new Set(found.pick.split(","))].filter((id) => byId.has(id)).slice(0, MOST);
    if (!keys.includes(found.sort)) found.sort = DEFAULTS.sort;
    if (!data.eps[found.eps]) found.eps = DEFAULTS.eps;
    if (found.goal !== "target") found.goal = "ignore";
    if (found.pick.length < 2) found.view = "";
    return found;
  }

  function change(changes, replace = false) {
    const parts = new URLSearchParams();
    for (const [key, value] of Object.entries({ ...now, ...changes })) {
      if (String(value) !== DEFAULTS[key]) parts.set(key, String(value));
    }
    const hash = `#${parts.toString().replaceAll("%2C", ",").replaceAll("%2F", "/")}`;
    if (replace) history.replaceState(null, "", hash);
    else history.pushState(null, "", hash);
    now = read();
    show();
  }

  // -- The table --

  function matches(row) {
    const words = now.q.toLowerCase().split(/\s+/).filter(Boolean);
    return words.every((word) => text.get(row).includes(word))
      && FILTERS.slice(1).every((key) => !now[key] || row.dataset[key] === now[key]);
  }

  function compareRows(key, order) {
    const index = keys.indexOf(key);
    const sign = order === "descending" ? -1 : 1;
    const numeric = heads[index].dataset.kind === "number";
    const value = (row) => {
      const cell = row.cells[index];
      if (!numeric) return (cell.dataset.v ?? cell.textContent).trim().toLowerCase();
      return cell.dataset.v ? Number(cell.dataset.v) : NaN;
    };
    const doubt = (row) => isScore(key) && row.dataset.sure === "no";
    return (a, b) => {
      if (doubt(a) !== doubt(b)) return doubt(a) - doubt(b);
      const [x, y] = [value(a), value(b)];
      if (numeric && (Number.isNaN(x) || Number.isNaN(y))) return Number.isNaN(x) - Number.isNaN(y);
      const found = numeric ? x - y : x.localeCompare(y, "en", { numeric: true });
      return sign * found || lines.indexOf(a) - lines.indexOf(b);
    };
  }

  function shownRows() {
    return [...rows].sort(compareRows(now.sort, now.order)).filter((row) => matches(row));
  }

  // A recipe is in order among models; its seeds are below it, where it is open or one searches.
  function isOpen(recipe) {
    return now.q.trim() !== "" || now.open.includes(recipe.dataset.recipe);
  }

  function shownLines(found) {
    const seeds = (recipe) => found.filter((row) => row.dataset.recipe === recipe.dataset.recipe);
    const alone = found.filter((row) => !row.dataset.recipe);
    const ordered = [...alone, ...recipes.filter((recipe) => seeds(recipe).length)].sort(compareRows(now.sort, now.order));
    return ordered.flatMap((line) => [line, ...(recipes.includes(line) && isOpen(line) ? seeds(line) : [])]);
  }

  function showTable() {
    const found = shownRows();
    const shown = new Set(shownLines(found));
    for (const line of lines) line.hidden = !shown.has(line);
    for (const recipe of recipes) {
      const button = recipe.querySelector(".opens");
      button.setAttribute("aria-expanded", isOpen(recipe));
      button.disabled = now.q.trim() !== "";
    }
    const active = document.activeElement;
    table.tBodies[0].append(...shown, ...lines.filter((line) => line.hidden));
    if (active !== document.activeElement) active.focus(); // moving a row takes its focus
    table.tBodies[0].classList.toggle("by-rank", now.sort === "rank" && now.order === "ascending");
    heads.forEach((head, index) => {
      if (head.dataset.key === now.sort) head.setAttribute("aria-sort", now.order);
      else head.removeAttribute("aria-sort");
      const hidden = now.hide.includes(head.dataset.key);
      if (head.hidden !== hidden) for (const row of [head.parentNode, ...lines]) row.cells[index].hidden = hidden;
    });
    const words = found.length === rows.length ? `${rows.length} models` : `${found.length} of ${rows.length} models`;
    if ($("status").textContent !== words) $("status").textContent = words;
  }

  function showTools() {
    for (const key of FILTERS) if ($(key) && $(key).value !== now[key]) $(key).value = now[key];
    for (const box of document.getElementsByName("column")) box.checked = !now.hide.includes(box.value);
    for (const row of rows) {
      const box = row.querySelector(".pick input");
      box.checked = now.pick.includes(row.dataset.id);
      box.disabled = !box.checked && now.pick.length === MOST;
    }
    $("picked").hidden = now.pick.length === 0;
    $("picked-names").textContent = now.pick.map(nameOf).join(", ")
      + (now.pick.length < 2 ? " – pick one more to compare" : "");
    $("compare-open").disabled = now.pick.length < 2;
  }

  // -- Two to four side by side --

  const nameOf = (id) => data.values[id][data.columns.indexOf("name")];

  function showCompare() {
    const picks = now.pick;
    showCurves(picks);
    showMeasures(picks);
    showDifferences(picks);
    showPictures(picks);
    showPairs(picks);
  }

  function showCurves(picks) {
    const chart = document.querySelector("#compare .chart");
    const legend = document.querySelector("#compare .legend");
    for (const old of chart.querySelectorAll(".line, .band, .mark")) old.remove();
    legend.replaceChildren();
    picks.forEach((id, number) => {
      const curve = data.curves[id];
      const look = `hue-${number}`;
      const mark = (x, y) => draw("path", { class: `mark ${look}`, d: data.marks[number], transform: `translate(${x} ${y})` });
      if (curve.band) chart.append(draw("path", { class: `band ${look}`, d: curve.band }));
      chart.append(draw("path", { class: `line ${look}`, d: curve.path }), ...curve.marks.map(([x, y]) => mark(x, y)));
      const swatch = draw("svg", { class: "swatch", viewBox: "0 0 38 14", "aria-hidden": "true" });
      swatch.append(draw("path", { class: `line ${look}`, d: "M1 7H37" }), mark(19, 7));
      legend.append(make("li", {}, swatch, nameOf(id)));
    });
  }

  function header(names) {
    const cells = names.map((name) => make("th", { scope: "col" }, name));
    return make("thead", {}, make("tr", {}, make("td"), ...cells));
  }

  function showMeasures(picks) {
    const skipped = ["name", undefined];
    const body = make("tbody");
    heads.forEach((head, index) => {
      if (skipped.includes(head.dataset.key)) return;
      const cells = picks.map((id) => {
        const cell = byId.get(id).cells[index];
        const copy = make("td", { class: cell.className });
        copy.append(...[...cell.cloneNode(true).childNodes]);
        return copy;
      });
      body.append(make("tr", {}, make("th", { scope: "row", title: head.title }, head.dataset.label), ...cells));
    });
    $("compare-table").replaceChildren(header(picks.map(nameOf)), body);
  }

  // Differences are listed for each id with all that come after it: value, low, high of 10 000.
  function difference(a, b) {
    const [i, j] = [data.paired.indexOf(a), data.paired.indexOf(b)];
    if (i < 0 || j < 0) return null;
    if (i > j) {
      const [value, low, high] = difference(b, a);
      return [-value, -high, -low];
    }
    const before = i * data.paired.length - (i * (i + 1)) / 2;
    const at = 3 * (before + j - i - 1);
    return data.differences.slice(at, at + 3).map((part) => part / 10_000);
  }

  function showDifferences(picks) {
    const percent = (share) => `${share < 0 ? "−" : "+"}${Math.abs(100 * share).toFixed(1)}%`;
    const body = make("tbody");
    picks.forEach((a, i) => picks.slice(i + 1).forEach((b) => {
      const found = difference(a, b);
      const said = found ? `${percent(found[0])} (${percent(found[1])} to ${percent(found[2])})` : "not on this page";
      const told = !found ? "–" : found[1] <= 0 && found[2] >= 0 ? "may be chance" : "told apart";
      body.append(make("tr", {},
        make("th", { scope: "row" }, `${nameOf(a)} minus ${nameOf(b)}`), make("td", {}, said), make("td", {}, told)));
    }));
    $("compare-differences").replaceChildren(header(["robust area", "verdict"]), body);
  }

  function showPictures(picks) {
    $("compare-pictures").replaceChildren(...picks.map((id) => {
      const figure = make("figure", {}, make("figcaption", {}, nameOf(id)));
      if (data.pictures.includes(id)) {
        const alt = `Pictures of ${nameOf(id)}, a column a class; from the top: ${data.picture_rows.join("; ")}`;
        const names = data.picture_rows.map((name, row) => make("span", { class: `row-${row + 1}` }, name));
        figure.append(make("div", { class: "strip-rows" }, make("img", { src: `${id}/thumbnails.png`, alt }), ...names));
      } else figure.append(make("p", { class: "muted" }, "No pictures."));
      return figure;
    }));
  }

  function showPairs(picks) {
    $("goal").value = now.goal;
    $("eps").value = now.eps;
    $("compare-pairs").replaceChildren(...picks.map((id) => matrix(id, data.pairs[id])));
  }

  function matrix(id, pairs) {
    const box = make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `Pairs of ${nameOf(id)}` });
    if (!pairs) {
      box.append(make("p", { class: "muted" }, `${nameOf(id)}: its page has them.`));
      return box;
    }
    const classes = [...Array(pairs.classes).keys()];
    const corner = make("th", { scope: "col", class: "corner" }, make("span", {}, "source ↓"), make("span", {}, "target →"));
    const body = make("tbody");
    for (const source of classes) {
      const cells = classes.map((target) => {
        const at = source * pairs.classes + target;
        const n = pairs.n[at];
        if (!n) return make("td", { class: source === target ? "diagonal" : "empty" });
        const percent = Math.round((100 * pairs[now.goal][now.eps][at]) / n);
        return make("td", { class: `p${percent}` }, String(percent), make("small", {}, `of ${n}`));
      });
      body.append(make("tr", {}, make("th", { scope: "row" }, String(source)), ...cells));
    }
    const head = make("thead", {}, make("tr", {}, corner, ...classes.map((c) => make("th", { scope: "col" }, String(c)))));
    box.append(make("table", { class: "heat" }, make("caption", {}, `${nameOf(id)} at eps ${data.eps[now.eps]}`), head, body));
    return box;
  }

  // -- Downloads of what is shown: the same columns as the whole board's files --

  function shownValues() {
    return shownRows().map((row) => data.values[row.dataset.id]);
  }

  function toCsv(records) {
    const cell = (value) => {
      if (value === null) return "";
      if (typeof value === "number") return String(value);
      const safe = /^[=+\-@\t\r\n]/.test(value) ? `'${value}` : value;
      return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
    };
    return [data.columns, ...records].map((record) => `${record.map(cell).join(",")}\n`).join("");
  }

  function toJson(records) {
    const named = records.map((record) => Object.fromEntries(data.columns.map((column, i) => [column, record[i]])));
    return `${JSON.stringify({ board: data.board, rows: named }, null, 1)}\n`;
  }

  function save(name, type, content) {
    const url = URL.createObjectURL(new Blob([content], { type }));
    make("a", { href: url, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(url), 1000);
  }

  // -- All together --

  function show() {
    showTools();
    showTable();
    const comparing = now.view === "compare";
    if (comparing) showCompare();
    $("compare").hidden = !comparing;
    for (const id of ["models", "about"]) $(id).hidden = comparing;
    document.body.classList.toggle("comparing", comparing);
    if (viewed !== null && viewed !== now.view) {
      const place = comparing ? $("compare-title") : $("compare-open").disabled ? $("main") : $("compare-open");
      place.focus();
      if (comparing) scrollTo(0, 0);
    }
    viewed = now.view;
  }

  for (const head of heads.filter((one) => one.dataset.key)) {
    const button = make("button", { type: "button", class: "sort" }, ...head.childNodes);
    head.replaceChildren(button);
    const best = isScore(head.dataset.key) || ["clean", "verified"].includes(head.dataset.key);
    button.addEventListener("click", () => {
      const flipped = now.order === "ascending" ? "descending" : "ascending";
      change({ sort: head.dataset.key, order: now.sort === head.dataset.key ? flipped : best ? "descending" : "ascending" });
    });
  }
  for (const key of FILTERS.slice(1)) $(key)?.addEventListener("change", (event) => change({ [key]: event.target.value }));
  $("q").addEventListener("input", (event) => change({ q: event.target.value }, true));
  for (const box of document.getElementsByName("column")) {
    box.addEventListener("change", () => {
      const hide = now.hide.filter((key) => key !== box.value);
      change({ hide: box.checked ? hide : [...hide, box.value] });
    });
  }
  for (const recipe of recipes) {
    const [button, id] = [recipe.querySelector(".opens"), recipe.dataset.recipe];
    recipe.querySelector(".name").hidden = true;
    button.hidden = false;
    button.addEventListener("click", () => {
      const others = now.open.filter((one) => one !== id);
      change({ open: now.open.includes(id) ? others : [...others, id] }, true);
    });
  }
  for (const row of rows) {
    const box = row.querySelector(".pick input");
    box.hidden = false;
    box.addEventListener("change", () => {
      const others = now.pick.filter((id) => id !== row.dataset.id);
      change({ pick: box.checked ? [...others, row.dataset.id] : others }, true);
    });
  }
  for (const form of [$("tools"), $("pairs-tools")]) form.addEventListener("submit", (event) => event.preventDefault());
  $("tools").addEventListener("reset", (event) => {
    event.preventDefault();
    const cleared = Object.fromEntries([...FILTERS, "sort", "order", "hide", "open"].map((key) => [key, DEFAULTS[key]]));
    change(cleared);
  });
  $("compare-open").addEventListener("click", () => change({ view: "compare" }));
  $("compare-close").addEventListener("click", () => change({ view: "" }));
  $("compare-clear").addEventListener("click", () => { change({ pick: [] }); $("board").parentNode.focus(); });
  for (const key of ["goal", "eps"]) $(key).addEventListener("change", (event) => change({ [key]: event.target.value }, true));
  $("save-csv").addEventListener("click", () => save(`${data.board}.csv`, "text/csv", toCsv(shownValues())));
  $("save-json").addEventListener("click", () => save(`${data.board}.json`, "application/json", toJson(shownValues())));
  addEventListener("popstate", () => {
    if (!isState()) return;
    now = read();
    show();
  });
  $("tools").hidden = false;
  show();
}

// A hash may also be a place on the page, such as that of the link that skips to the content.
const isState = () => location.hash === "" || location.hash === "#" || location.hash.includes("=");

// Menus close with Escape and with a click elsewhere.
function closeMenus() {
  const open = () => document.querySelectorAll(".menu[open]");
  addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    for (const menu of open()) { menu.open = false; menu.querySelector("summary").focus(); }
  });
  addEventListener("click", (event) => {
    for (const menu of open()) if (!menu.contains(event.target)) menu.open = false;
  });
}

addEventListener("DOMContentLoaded", () => {
  offerTheme();
  offerCopies();
  closeMenus();
  if ($("data")) startBoard();
});
