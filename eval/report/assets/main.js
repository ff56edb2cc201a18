// Start: views by address, theme, and what ties the list to the microscope.

const THEMES = { auto: "◐ Auto", light: "☀ Light", dark: "☾ Dark" };

function themeButton() {
  const button = document.getElementById("theme");
  const stored = () => {
    try {
      return localStorage.getItem("theme") ?? "auto";
    } catch {
      return "auto"; // files may have no storage
    }
  };
  const set = (theme) => {
    button.textContent = THEMES[theme];
    document.documentElement.dataset.theme = theme;
  };
  let theme = stored() in THEMES ? stored() : "auto";
  set(theme);
  button.addEventListener("click", () => {
    const names = Object.keys(THEMES);
    theme = names[(names.indexOf(theme) + 1) % names.length];
    set(theme);
    try {
      localStorage.setItem("theme", theme);
    } catch {
      // the choice holds for this visit
    }
  });
}

function showEpisodes(report) {
  const { episodes, head } = report;
  const status = element("div", { class: "status", role: "status" });
  const open = (id) => (location.hash = `#/episodes/${id}`);
  const list = new EpisodeList(report, open);
  const microscope = new Microscope(report);
  const filters = new Filters(report, () => filter());

  function filter() {
    const started = performance.now();
    const ids = filters.apply();
    list.show(ids);
    microscope.highlight(filters.text);
    const reading =
      filters.text && !episodes.hasAllTexts
        ? ` · reading texts, ${Math.round((100 * episodes.textsRead) / episodes.count)} %`
        : "";
    const sampled =
      episodes.count + head.unreadable < head.available
        ? ` · an even sample of ${head.available.toLocaleString("en")}`
        : "";
    const total = ids.length === episodes.count ? "" : ` of ${episodes.count.toLocaleString("en")}`;
    status.textContent = `${ids.length.toLocaleString("en")}${total} episodes${sampled}${reading}`;
    status.dataset.milliseconds = (performance.now() - started).toFixed(1);
  }

  document.getElementById("episode-count").textContent = episodes.count.toLocaleString("en");
  document
    .getElementById("episodes")
    .replaceChildren(element("aside", {}, filters.node, status, list.node), microscope.node);
  filter();
  return {
    list,
    microscope,
    textsRead: () => filters.text && filter(),
    focusSearch: () => document.getElementById("search").focus(),
  };
}

function route(report, view) {
  const [name, id, other] = location.hash.slice(2).split("/");
  const shown = name === "episodes" ? "episodes" : "overview";
  for (const each of ["overview", "episodes"]) document.getElementById(each).hidden = each !== shown;
  for (const link of document.querySelectorAll("nav a"))
    link.toggleAttribute("aria-current", link.dataset.view === shown);
  tooltip.hide();
  if (shown !== "episodes") return;
  const number = (text) => (/^\d+$/.test(text ?? "") && Number(text) < report.episodes.count ? Number(text) : null);
  const first = number(id);
  view.list.mark(first);
  if (first === null) view.microscope.nothing();
  else view.microscope.show(first, number(other));
}

async function start() {
  themeButton();
  if (!("DecompressionStream" in window)) {
    document.body.append(
      emptyState(
        "This browser is too old for the report",
        "It needs DecompressionStream: Chrome 80, Firefox 113, Safari 16.4, or later.",
      ),
    );
    return;
  }
  const report = await readReport();
  showOverview(report);
  const view = showEpisodes(report);
  addEventListener("hashchange", () => route(report, view));
  addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.target.matches("input, select")) return;
    event.preventDefault();
    location.hash ||= "#/episodes";
    view.focusSearch();
  });
  route(report, view);
  document.documentElement.dataset.ready = "";
  performance.mark("ready");
  await report.episodes.readTexts(view.textsRead);
  document.documentElement.dataset.textsRead = "";
}

await start();
