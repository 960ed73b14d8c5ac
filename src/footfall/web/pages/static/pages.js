// What has to move on the pages: everything else works without it. No state is kept but the theme.

const root = document.documentElement;

// Numbers as the reader's language writes them; the server wrote them in English.
const compact = new Intl.NumberFormat(undefined, { notation: "compact", maximumFractionDigits: 1 });
const plain = new Intl.NumberFormat(undefined, { maximumFractionDigits: 2 });

function localise(part) {
  for (const element of part.querySelectorAll("[data-value]")) {
    const value = Number(element.dataset.value);
    if (element.dataset.value === "" || Number.isNaN(value)) continue;
    if (element.dataset.kind === "count") {
      element.textContent = value < 1000 ? plain.format(value) : compact.format(value);
      element.title = plain.format(value);
    } else if (element.dataset.kind === "decimal") {
      element.textContent = plain.format(value);
    } else if (element.dataset.kind === "percentage") {
      element.textContent = `${plain.format(value)}%`;
    }
  }
}

// The chart: a cross under the pointer, or by the arrow keys, and the figures of that point.
function enliven(figure) {
  const plot = figure.querySelector(".plot");
  const rows = [...figure.querySelectorAll("tbody tr")].filter((row) => row.cells[1].textContent);
  if (!rows.length) return;
  const tip = document.createElement("div");
  tip.className = "tip";
  tip.setAttribute("role", "status");
  tip.hidden = true;
  const draw = (name, attributes) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.style.display = "none";
    plot.append(element);
    return element;
  };
  const cross = draw("line", { class: "cross", y1: "0", y2: "100%" });
  const spot = draw("circle", { class: "spot", r: 5 });
  figure.append(tip);
  let at = rows.length - 1;

  const show = (index) => {
    at = Math.max(0, Math.min(rows.length - 1, index));
    const row = rows[at];
    const [x, y] = [Number(row.dataset.x), Number(row.dataset.y)];
    for (const [name, value] of [["x1", x], ["x2", x]]) cross.setAttribute(name, `${value}%`);
    spot.setAttribute("cx", `${x}%`);
    spot.setAttribute("cy", `${y}%`);
    cross.style.display = spot.style.display = "";
    const line = (tag, text) => {
      const element = document.createElement(tag);
      element.textContent = text;
      return element;
    };
    const cells = [...row.cells].map((cell) => cell.textContent);
    tip.replaceChildren(line("span", cells[0]), line("b", cells[1]));
    if (cells[2]) tip.append(line("span", `${cells[2]}: ${cells[3]}`));
    tip.hidden = false;
    const box = plot.getBoundingClientRect();
    const home = figure.getBoundingClientRect();
    const left = box.left - home.left + (box.width * x) / 100;
    const wanted = left + 14 + tip.offsetWidth > home.width ? left - 14 - tip.offsetWidth : left + 14;
    tip.style.left = `${Math.max(4, wanted)}px`;
    tip.style.top = `${Math.max(4, box.top - home.top + (box.height * y) / 100 - tip.offsetHeight - 8)}px`;
  };
  const hide = () => {
    tip.hidden = true;
    cross.style.display = spot.style.display = "none";
  };
  plot.addEventListener("pointermove", (event) => {
    const box = plot.getBoundingClientRect();
    const x = (100 * (event.clientX - box.left)) / box.width;
    const nearest = rows.reduce((best, row, index) =>
      Math.abs(row.dataset.x - x) < Math.abs(rows[best].dataset.x - x) ? index : best, 0);
    show(nearest);
  });
  plot.addEventListener("pointerleave", hide);
  figure.addEventListener("blur", hide);
  figure.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1, Home: -rows.length, End: rows.length }[event.key];
    if (event.target !== figure || !step) return;
    event.preventDefault();
    show(tip.hidden ? at : at + step);
  });
}

// Who is here now, as it changes, and the first hit. A browser has six connections to a server, and a stream takes one of
// them, so a tab that nobody sees has none.
let stream;
function follow() {
  stream?.close();
  const link = document.querySelector("main [data-live]");
  const address = link?.dataset.live ?? document.querySelector("main [data-await]")?.dataset.await;
  if (!address || document.hidden) return;
  stream = new EventSource(address);
  stream.addEventListener("now", (event) => {
    const { visitors } = JSON.parse(event.data);
    link.querySelector("b").textContent = plain.format(visitors);
    link.lastChild.textContent = visitors === 1 ? " person here now" : " people here now";
  });
  stream.addEventListener("first", () => location.reload());
}
document.addEventListener("visibilitychange", follow);

// A click on a filter, a tab or a figure changes the page in place, so that it keeps its scroll position.
async function visit(address, { push }) {
  const main = document.querySelector("main");
  main.setAttribute("aria-busy", "true");
  try {
    const answer = await fetch(address, { headers: { Accept: "text/html" } });
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const fresh = page.querySelector("main");
    if (!answer.ok || !fresh) throw new Error(answer.statusText);
    if (push) history.pushState(null, "", address);
    document.title = page.title;
    main.replaceWith(document.adoptNode(fresh));
    prepare();
  } catch {
    location.assign(address); // the browser shows what is wrong
  }
}

function prepare() {
  const main = document.querySelector("main");
  localise(main);
  for (const figure of main.querySelectorAll("[data-chart]")) enliven(figure);
  follow();
}

document.addEventListener("click", (event) => {
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    if (!menu.contains(event.target)) menu.open = false;
  }
  const link = event.target.closest?.("main a[href]");
  if (!link || event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  const there = new URL(link.href);
  if (link.hasAttribute("download") || there.origin !== location.origin || there.pathname !== location.pathname) return;
  event.preventDefault();
  visit(link.href, { push: true });
});
addEventListener("popstate", () => visit(location.href, { push: false }));

addEventListener("keydown", (event) => {
  if (event.metaKey || event.ctrlKey || event.altKey || event.target.closest?.("input, select, textarea")) return;
  if (event.key === "Escape") {
    for (const menu of document.querySelectorAll("details.menu[open]")) menu.open = false;
    return;
  }
  const wanted = { ArrowLeft: "[rel=prev]", ArrowRight: "[rel=next]" }[event.key]
    ?? (/^[a-z0-9]$/i.test(event.key) ? `[aria-keyshortcuts="${event.key.toUpperCase()}"]` : null);
  if (wanted && !event.target.closest?.("[data-chart]")) document.querySelector(`main ${wanted}`)?.click();
});

// Light or dark, as the system has it or as the reader likes it.
const button = document.querySelector("button.theme");
if (button) {
  button.hidden = false;
  button.addEventListener("click", () => {
    const isDark = (root.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
    root.dataset.theme = isDark ? "light" : "dark";
    try { localStorage.setItem("footfall-theme", root.dataset.theme); } catch { /* until the page is left */ }
  });
}
prepare();
