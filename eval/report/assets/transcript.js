// The text of an episode: who wrote which part of it, what of it is trained, and how likely it was.

const KINDS = {
  prompt: ["Prompt", "the question and its instructions"],
  action: ["Policy", "sampled by the model"],
  documents: ["Documents", "inserted: what the search brought back"],
  feedback: ["Feedback", "inserted: a correction after a malformed turn"],
};
const LIKELY = -0.05; // log-probs above it need no colour
const SURPRISE = 5; // nats at which the colour is full

const heat = (logprob) => (logprob > LIKELY ? 0 : Math.min(1, -logprob / SURPRISE));
const spanClass = (span) => `${span.kind} ${span.trained ? "trained" : "untrained"}`;
const tokenCount = (span) => span.end - span.start;

function legend(whole) {
  const seen = new Map(whole.spans.map((span) => [spanClass(span), span]));
  return element("div", { class: "span-legend" }, [...seen].map(([name, span]) =>
    element("span", { title: KINDS[span.kind][1] }, element("i", { class: `swatch ${name}` }), KINDS[span.kind][0],
      element("small", {}, span.trained ? (whole.evaluated ? "would be trained" : "trained") : "not trained"))));
}

// The whole episode in one line, each span as wide as it has tokens.
function tape(spans, goTo) {
  return element("div", { class: "tape" }, spans.map((span, place) => {
    const size = tokenCount(span) || span.text.length;
    return element("button", { type: "button", class: spanClass(span), style: { "flex-grow": Math.max(size, 1) }, title: `${KINDS[span.kind][0]}: ${plural(tokenCount(span), "token")}`, onclick: () => goTo(place) });
  }));
}

function tokenNote(span, place, text) {
  const logprob = span.logprobs?.[place];
  const lines = [element("b", {}, text === undefined ? `token ${place + 1} of ${span.ids.length}` : JSON.stringify(text))];
  if (logprob !== undefined) lines.push(element("div", {}, `log-prob ${logprob.toFixed(3)}, p = ${figure(Math.exp(logprob))}`));
  lines.push(element("div", {}, `id ${span.ids[place]}, position ${span.start + place}, ${span.trained ? "trained" : "not trained"}`));
  return lines;
}

// Tells of the token under the pointer, and marks it in the text and in the bars.
function explain(node, span, texts) {
  const find = (event) => event.target.closest("[data-token]");
  const mark = (place, on) => {
    for (const each of node.querySelectorAll(`[data-token="${place}"]`)) each.classList.toggle("pointed", on);
  };
  node.addEventListener("pointermove", (event) => {
    const token = find(event);
    if (token) tooltip.show(event, ...tokenNote(span, Number(token.dataset.token), texts?.[token.dataset.token]));
  });
  node.addEventListener("pointerover", (event) => find(event) && mark(find(event).dataset.token, true));
  node.addEventListener("pointerout", (event) => {
    tooltip.hide();
    if (find(event)) mark(find(event).dataset.token, false);
  });
}

// [start, end) of every literal tag of the protocol in a text.
function tagRanges(text, tags) {
  if (!tags.length) return [];
  const escaped = tags.map((tag) => tag.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  return [...text.matchAll(new RegExp(escaped.join("|"), "g"))].map((found) => [found.index, found.index + found[0].length]);
}

function textWithTags(text, tags) {
  const parts = [];
  let at = 0;
  for (const [start, end] of tagRanges(text, tags)) {
    parts.push(text.slice(at, start), element("span", { class: "tag" }, text.slice(start, end)));
    at = end;
  }
  return [...parts, text.slice(at)];
}

function tokenTexts(span) {
  if (!span.lengths) return undefined;
  let at = 0;
  return span.lengths.map((length) => span.text.slice(at, (at += length)));
}

function written(span, tags) {
  const texts = tokenTexts(span);
  const ranges = tagRanges(span.text, tags);
  let at = 0;
  const tokens = texts?.map((text, place) => {
    const logprob = span.logprobs?.[place];
    const style = logprob === undefined ? {} : { "--heat": heat(logprob).toFixed(3) };
    const inTag = ranges.some(([start, end]) => start < at + text.length && at < end);
    at += text.length;
    return element("span", { class: `token${text ? "" : " end"}${inTag ? " tag" : ""}`, "data-token": place, style }, text || "EOS");
  });
  const bars = span.logprobs && element("div", { class: "bars", "aria-label": "log-prob of each token" }, span.logprobs.map((logprob, place) =>
    element("i", { "data-token": place }, element("b", { style: { height: `${Math.max(3, 100 * Math.min(1, -logprob / SURPRISE))}%`, "--heat": heat(logprob).toFixed(3) } }))));
  const node = element("div", {}, element("div", { class: "text" }, tokens ?? textWithTags(span.text, tags)), bars);
  if (span.ids) explain(node, span, texts);
  return node;
}

// A document block: its passages with their ids and scores, and what was found and not shown.
function documents(span, searches) {
  const [search] = searches;
  const starts = searches.length === 1 ? search.starts : [];
  if (!starts.length) return [element("div", { class: "text" }, span.text), searches.map(sourcesLine)];
  // A retriever may return one passage twice, so scores go by place.
  let from = 0;
  const scores = search.shown_ids.map((id) => {
    const place = search.passage_ids.indexOf(id, from);
    if (place >= 0) from = place + 1;
    return search.scores[place];
  });
  const last = span.text.lastIndexOf("\n<");
  const close = last > starts.at(-1) ? last + 1 : span.text.length;
  const passages = starts.map((start, place) => element("div", { class: "passage" },
    element("div", { class: "text" }, span.text.slice(start, starts[place + 1] ?? close).replace(/\n$/, "")),
    element("div", { class: "source" }, element("code", {}, search.shown_ids[place]), scores[place] !== undefined && element("b", { title: "score of the retriever" }, figure(scores[place])))));
  return [element("div", { class: "text wrapping" }, span.text.slice(0, starts[0]).trim()), passages, element("div", { class: "text wrapping" }, span.text.slice(close).trim())];
}

// Ids and scores of passages that the text does not tell apart.
const sourcesLine = (search) => search.shown_ids.length > 0 && element("div", { class: "sources" }, search.shown_ids.map((id) => element("span", {}, element("code", {}, id), " ", figure(search.scores[search.passage_ids.indexOf(id)]))));

function searchNote(search) {
  const left = search.passage_ids.length - search.shown_ids.length;
  return element("div", { class: "search" }, element("span", { class: "query", title: "query as it was sent" }, search.query),
    element("small", {}, search.tool && `${search.tool} · `, search.error ? "" : `${plural(search.passage_ids.length, "passage")}${left > 0 ? `, ${left} left out for lack of room` : ""} · `, seconds(search.seconds)),
    search.error && element("div", { class: "badge bad" }, search.error));
}

function turn(span, body, searches = []) {
  const counts = tokenCount(span) > 0 && plural(tokenCount(span), "token");
  const mean = span.logprobs?.length ? span.logprobs.reduce((sum, value) => sum + value, 0) / span.logprobs.length : null;
  return element("article", { class: `turn ${spanClass(span)}` },
    element("header", {}, element("strong", { title: KINDS[span.kind][1] }, KINDS[span.kind][0]), element("small", {}, counts),
      mean !== null && element("small", { title: "mean log-prob of its tokens" }, `log-prob ${mean.toFixed(2)}`), element("span", { class: "mask" }, span.trained ? "trained" : "masked")),
    searches.map(searchNote), element("div", { class: "body" }, body));
}

function transcript(whole, tags) {
  let block = 0;
  const turns = whole.spans.map((span) => {
    if (span.kind !== "documents") return turn(span, written(span, tags));
    const searches = whole.searches.filter((search) => search.block === block);
    block += 1;
    return turn(span, documents(span, searches), searches);
  });
  const lost = whole.searches.filter((search) => search.block === null);
  const unanswered = lost.map((search) => element("article", { class: "turn lost" }, element("header", {}, element("strong", {}, "Search without documents")), searchNote(search)));
  return { node: element("div", { class: "transcript" }, turns, unanswered), turns };
}
