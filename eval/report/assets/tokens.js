// What the policy wrote, token by token: where each begins, and how likely it was.

const LIKELY = -0.05; // log-probs above it need no colour
const SURPRISE = 5; // nats at which the colour is full
const heat = (logprob) => (logprob > LIKELY ? 0 : Math.min(1, -logprob / SURPRISE));

// [start, end) of every literal tag of the protocol in a text.
function tagRanges(text, tags) {
  if (!tags.length) return [];
  const escaped = tags.map((tag) => tag.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  return [...text.matchAll(new RegExp(escaped.join("|"), "g"))].map((found) => [
    found.index,
    found.index + found[0].length,
  ]);
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

function tokenNote(span, place, text) {
  const logprob = span.logprobs?.[place];
  const lines = [
    element("b", {}, text === undefined ? `token ${place + 1} of ${span.ids.length}` : JSON.stringify(text)),
  ];
  if (logprob !== undefined)
    lines.push(element("div", {}, `log-prob ${logprob.toFixed(3)}, p = ${figure(Math.exp(logprob))}`));
  lines.push(
    element(
      "div",
      {},
      `id ${span.ids[place]}, position ${span.start + place}, ${span.trained ? "trained" : "not trained"}`,
    ),
  );
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

function written(span, tags) {
  const texts = tokenTexts(span);
  const ranges = tagRanges(span.text, tags);
  let at = 0;
  const tokens = texts?.map((text, place) => {
    const logprob = span.logprobs?.[place];
    const style = logprob === undefined ? {} : { "--heat": heat(logprob).toFixed(3) };
    const inTag = ranges.some(([start, end]) => start < at + text.length && at < end);
    at += text.length;
    return element(
      "span",
      { class: `token${text ? "" : " end"}${inTag ? " tag" : ""}`, "data-token": place, style },
      text || "EOS",
    );
  });
  const bars =
    span.logprobs &&
    element(
      "div",
      { class: "bars", "aria-label": "log-prob of each token" },
      span.logprobs.map((logprob, place) =>
        element(
          "i",
          { "data-token": place },
          element("b", {
            style: {
              height: `${Math.max(3, 100 * Math.min(1, -logprob / SURPRISE))}%`,
              "--heat": heat(logprob).toFixed(3),
            },
          }),
        ),
      ),
    );
  const node = element("div", {}, element("div", { class: "text" }, tokens ?? textWithTags(span.text, tags)), bars);
  if (span.ids) explain(node, span, texts);
  return node;
}
