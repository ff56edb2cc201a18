// The list of episodes. Only the rows that can be seen exist, so its length does not matter.

const ROW_HEIGHT = 66; // pixels, as the style sheet has it
const ROWS_BEYOND = 6;

class EpisodeList {
  constructor(report, opened) {
    Object.assign(this, { report, opened, ids: [], current: null });
    this.rows = element("div", { class: "rows" });
    this.node = element(
      "div",
      {
        class: "list",
        tabindex: "0",
        role: "listbox",
        "aria-label": "Episodes",
        onscroll: () => this.draw(),
        onkeydown: (event) => this.onKey(event),
      },
      this.rows,
    );
    new ResizeObserver(() => this.draw()).observe(this.node);
  }

  show(ids) {
    this.ids = ids;
    this.rows.style.height = `${ids.length * ROW_HEIGHT}px`;
    this.node.scrollTop = 0;
    this.draw();
  }

  mark(id) {
    this.current = id;
    const place = this.ids.indexOf(id);
    const top = place * ROW_HEIGHT;
    const { scrollTop, clientHeight } = this.node;
    if (place >= 0 && top < scrollTop) this.node.scrollTop = top;
    if (place >= 0 && top + ROW_HEIGHT > scrollTop + clientHeight)
      this.node.scrollTop = top + ROW_HEIGHT - clientHeight;
    this.draw();
  }

  draw() {
    if (!this.ids.length) {
      this.rows.replaceChildren(
        emptyState(
          "No episode",
          this.report.episodes.count ? "None passes these filters." : "No episode has ended yet.",
        ),
      );
      return;
    }
    const first = Math.max(0, Math.floor(this.node.scrollTop / ROW_HEIGHT) - ROWS_BEYOND);
    const last = Math.min(
      this.ids.length,
      Math.ceil((this.node.scrollTop + this.node.clientHeight) / ROW_HEIGHT) + ROWS_BEYOND,
    );
    const seen = [];
    for (let place = first; place < last; place++) seen.push(this.row(place));
    this.rows.replaceChildren(...seen);
  }

  row(place) {
    const id = this.ids[place];
    const { episodes } = this.report;
    const verdict = episodes.verdict(id);
    const answer = episodes.get(id, "answer");
    const reward = episodes.get(id, "reward");
    const notes = [
      episodes.get(id, "forged") && ["bad", "forged tags"],
      verdict === "failed" && ["bad", "retriever error"],
      episodes.get(id, "replayed") && ["quiet", "replayed"],
      episodes.get(id, "attempt") > 0 && ["quiet", `attempt ${episodes.get(id, "attempt") + 1}`],
    ].filter(Boolean);
    return element(
      "div",
      {
        class: `row ${verdict}`,
        role: "option",
        "data-id": id,
        "aria-selected": id === this.current,
        style: { top: `${place * ROW_HEIGHT}px` },
        onclick: () => this.opened(id),
      },
      element("div", { class: "question" }, episodes.row(id).question),
      element(
        "div",
        { class: "answer" },
        element("i", { class: `dot ${verdict}`, title: verdict }),
        answer ?? element("em", {}, "no answer"),
        element("span", { class: "reward" }, reward === null ? "" : reward.toFixed(2)),
      ),
      element(
        "div",
        { class: "meta" },
        placeOf(this.report, id),
        " · ",
        plural(episodes.get(id, "searches"), "search", "searches"),
        notes.map(([kind, text]) => element("span", { class: `badge ${kind}` }, text)),
      ),
    );
  }

  onKey(event) {
    const move = { ArrowDown: 1, ArrowUp: -1, j: 1, k: -1 }[event.key];
    if (!move || !this.ids.length) return;
    event.preventDefault();
    const place = this.ids.indexOf(this.current) + move;
    const id = this.ids[Math.min(this.ids.length - 1, Math.max(0, place))];
    this.mark(id); // at once: the next key may come before the address has changed
    this.opened(id);
  }
}
