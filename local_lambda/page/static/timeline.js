"use strict";
// The timeline: a lane for each environment, for each of its extensions, and for each backend. Time in which all stands
// still is drawn short, however long it was: an environment is frozen most of its life.

const LARGEST_GAP = 56; // pixels that a time without any work takes
const MOST_SPANS = 1000; // that are drawn: the last ones
const SHORTEST_FREEZE = 0.003; // seconds: one between two invocations in a row is not drawn

const timeline = {
  following: true, // whether the end is kept in view
  current: null, // the id of the part that the arrow keys are at
  parts: [], // ids, in order of time
  timer: null,

  start() {
    const box = byId("timeline");
    box.addEventListener("scroll", () => {
      this.following = box.scrollLeft + box.clientWidth >= box.scrollWidth - 40;
    });
    box.addEventListener("keydown", (pressed) => this.move(pressed));
    box.addEventListener("focusin", (event) => this.select(event.target));
    byId("zoom").addEventListener("input", () => page.changed());
    addEventListener("resize", () => page.changed());
  },

  show() {
    const now = model.now();
    const isDrawn = (span) => span.kind !== "frozen" || (span.ended ?? now) - span.began > SHORTEST_FREEZE;
    const spans = model.rows("spans").filter(isDrawn).slice(-MOST_SPANS).sort((a, b) => a.began - b.began);
    const scale = scaleOf(spans, 10 ** (1.6 + byId("zoom").value / 36), now);
    this.parts = spans.map((span) => span.id);
    if (!this.parts.includes(this.current)) this.current = this.parts.at(-1) ?? null;
    const lanes = lanesOf(spans).map((lane) => ({ ...lane, ...stacked(lane.spans, scale, now) }));
    const box = byId("timeline");
    showRows(box, lanes, createLane, (element, lane) => updateLane(element, lane, scale.end));
    if (this.following) box.scrollLeft = box.scrollWidth;
    if (box.contains(document.activeElement)) this.describe();
    // What lasts grows, without any message.
    clearTimeout(this.timer);
    const grows = spans.some((span) => span.ended === null);
    if (grows && byId("data").textContent === "") this.timer = setTimeout(() => page.changed(), 150);
  },

  move(pressed) {
    const step = { ArrowRight: 1, ArrowLeft: -1, Home: -Infinity, End: Infinity }[pressed.key];
    if (step === undefined || this.parts.length === 0) return;
    pressed.preventDefault();
    const place = this.parts.indexOf(this.current) + step;
    this.current = this.parts[Math.max(0, Math.min(this.parts.length - 1, place))];
    const next = byId("timeline").querySelector(`[data-id="${CSS.escape(this.current)}"]`);
    next?.focus();
    next?.scrollIntoView({ block: "nearest", inline: "nearest" });
  },

  // The focus has come to a part.
  select(element) {
    this.current = element.dataset.id ?? this.current;
    this.describe();
    page.changed();
  },

  // Say what the current part is.
  describe() {
    const span = model.row("spans", this.current);
    if (span !== undefined) setText(byId("span"), describe(span));
  },
};

// A span in words.
function describe(span) {
  const lasted = span.ended === null ? "until now" : duration(span.ended - span.began);
  const words = [span.name, span.lane && `of ${span.lane}`, span.status ?? "", span.detail ?? ""];
  return `${words.filter(Boolean).join(", ")}: at ${clockTime(span.began)}, ${lasted}`;
}

// Map times to pixels. Where something works the scale is `perSecond`; a time in which nothing does is cut short.
function scaleOf(spans, perSecond, now) {
  const busy = spans
    .filter((span) => span.kind !== "frozen")
    .map((span) => {
      const end = span.ended ?? now;
      // A request may hang through a freeze; only its beginning keeps the scale.
      return [span.began, span.kind === "request" ? Math.min(end, span.began + 0.05) : end];
    });
  const points = []; // [time, pixels], both ascending
  let pixels = 0;
  let until = null;
  for (const [began, ended] of busy) {
    if (until === null) points.push([began, 0]);
    else if (began > until) {
      pixels += Math.min((began - until) * perSecond, LARGEST_GAP);
      points.push([began, pixels]);
    } else if (ended <= until) continue;
    const from = until === null ? began : Math.max(began, until);
    pixels += (ended - from) * perSecond;
    points.push([ended, pixels]);
    until = ended;
  }
  const last = until === null ? 0 : Math.min((now - until) * perSecond, LARGEST_GAP);
  points.push([now, pixels + last]);
  return { at: (time) => interpolate(points, time), end: pixels + last };
}

function interpolate(points, time) {
  let low = 0;
  let high = points.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (points[middle][0] <= time) low = middle + 1;
    else high = middle;
  }
  if (low === 0) return 0;
  if (low === points.length) return points[low - 1][1];
  const [before, x] = points[low - 1];
  const [after, y] = points[low];
  return x + ((time - before) / (after - before)) * (y - x);
}

// The lanes: environments with their extensions, then the backends.
function lanesOf(spans) {
  const lanes = new Map();
  for (const span of spans) {
    const id = `${span.environment ?? "~"}/${span.lane}`;
    if (!lanes.has(id)) lanes.set(id, { id, environment: span.environment, name: span.lane, spans: [] });
    lanes.get(id).spans.push(span);
  }
  const backends = model.rows("destinations").map((one) => one.id);
  const rank = (lane) => (lane.environment === null ? 1e9 + backends.indexOf(lane.name) : Number(lane.environment));
  const isSecond = (lane) => (lane.name === "" ? 0 : 1);
  return [...lanes.values()].sort((a, b) => rank(a) - rank(b) || isSecond(a) - isSecond(b)).map((lane) => {
    if (lane.environment === null) return { ...lane, title: `to ${lane.name}` };
    const number = model.row("environments", lane.environment)?.number;
    return { ...lane, title: lane.name || `environment ${number}` };
  });
}

// Place the spans of a lane; those that overlap stand below one another. The platform's times are cut to milliseconds,
// so what follows at once may seem to begin a little earlier.
function stacked(spans, scale, now) {
  const ends = []; // of the rows, in seconds
  const placed = spans.map((span) => {
    const end = span.ended ?? now;
    let row = ends.findIndex((last) => last <= span.began + 0.002);
    if (row < 0) row = ends.length;
    ends[row] = end;
    const left = scale.at(span.began);
    return { ...span, row, left, width: Math.max(scale.at(end) - left, 3) };
  });
  return { placed, rows: ends.length };
}

function createLane() {
  return make("div", "lane", null, make("div", "lane-title"), make("div", "track"));
}

function updateLane(element, lane, width) {
  const [title, track] = element.children;
  setText(title, lane.title);
  track.style.width = `${Math.ceil(width)}px`;
  track.style.setProperty("--rows", lane.rows);
  showRows(track, lane.placed, createSpan, updateSpan);
}

function createSpan(span) {
  const button = make("button", "", null, make("span", "label"));
  button.type = "button";
  if (span.request) button.addEventListener("click", () => records.search(span.request));
  return button;
}

function updateSpan(button, span) {
  const failed = span.status && span.status !== "success" ? "failure" : "";
  button.className = `span ${span.kind} ${failed} ${span.ended === null ? "lasting" : ""}`;
  button.tabIndex = span.id === timeline.current ? 0 : -1;
  button.style.left = `${span.left.toFixed(1)}px`;
  button.style.width = `${span.width.toFixed(1)}px`;
  button.style.setProperty("--row", span.row);
  const lasted = span.ended === null ? "" : duration(span.ended - span.began);
  setText(button.firstChild, span.width < 44 ? "" : `${span.name} ${lasted}`);
  button.title = describe(span);
  button.setAttribute("aria-label", button.title);
}
