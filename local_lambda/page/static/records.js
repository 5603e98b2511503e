"use strict";
// The records as they were emitted, newest first, and when each arrived where.

const records = {
  shown: 200,

  start() {
    for (const id of ["search", "stream", "missing"]) {
      byId(id).addEventListener("input", () => {
        this.shown = 200;
        page.changed();
      });
    }
    byId("more").addEventListener("click", () => {
      this.shown += 500;
      page.changed();
    });
  },

  // Show the records that hold `text`, and no others.
  search(text) {
    byId("search").value = text;
    this.shown = 200;
    page.changed();
  },

  show() {
    const all = model.rows("records");
    const found = all.filter(this.filter()).reverse();
    byId("missing-label").hidden = model.rows("destinations").length === 0;
    byId("more").hidden = found.length <= this.shown;
    const total = model.totals.records;
    const kept = all.length < total ? ` The page keeps the last ${model.limits.records} of ${total}.` : "";
    setText(byId("records-count"), `${found.length} of ${all.length} records.${kept}`);
    showRows(byId("records"), found.slice(0, this.shown), createRecord, updateRecord);
  },

  // Return the function that says whether a record is to be shown.
  filter() {
    const words = byId("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    const stream = byId("stream").value;
    const isMissing = byId("missing").checked;
    return (record) => {
      if (stream && record.type.split(".")[0] !== stream) return false;
      if (isMissing && !model.isMissing(record)) return false;
      if (words.length === 0) return true;
      return words.every((word) => searched(record).includes(word));
    };
  },
};

const searchedTexts = new WeakMap(); // by row; a row that changes is another object

// The text that a search looks at.
function searched(record) {
  let text = searchedTexts.get(record);
  if (text === undefined) {
    text = [record.type, record.request ?? "", textOf(record), JSON.stringify(record.record)].join(" ").toLowerCase();
    searchedTexts.set(record, text);
  }
  return text;
}

function createRecord(record) {
  const parts = [make("time"), make("span", "type"), make("span", "text"), make("span", "arrived")];
  const summary = make("summary", "", null, ...parts);
  const details = make("details", `record ${record.type.split(".")[0]}`, null, summary, make("pre"));
  details.addEventListener("toggle", () => page.changed());
  return make("li", "", null, details);
}

function updateRecord(item, record) {
  const details = item.firstChild;
  const [time, type, text, arrived] = details.firstChild.children;
  setText(time, clockTime(record.time));
  setText(type, record.type);
  const missing = record.missing ? `… [${record.missing} characters more]` : "";
  setText(text, textOf(record) + missing);
  showRows(arrived, chips(record), () => make("span"), (chip, one) => {
    chip.className = `chip ${one.kind}`;
    setText(chip, one.text);
  });
  if (details.open) {
    const emitted = { time: new Date(record.time * 1000).toISOString(), type: record.type, record: record.record };
    const request = record.request ? `\nrequest ${record.request}` : "";
    setText(details.lastChild, JSON.stringify(emitted, null, 2) + missing + request);
  }
}

// What there is to say of a record at each destination.
function chips(record) {
  const isWanted = record.environment ? model.isWanted(record) : true;
  if (!isWanted) return model.rows("destinations").length ? [{ id: "", kind: "none", text: "not subscribed to" }] : [];
  return model.rows("destinations").map((one) => {
    const name = one.id;
    if (name in record.arrived) {
      const [at, times] = record.arrived[name];
      const text = `✓ ${name} +${duration(at - record.time)}`;
      if (times > 1) return { id: name, kind: "twice", text: `${text} ${times} times` };
      return { id: name, kind: "there", text };
    }
    if (record.on_disk.includes(name)) return { id: name, kind: "disk", text: `▤ ${name}: in the spool` };
    if (model.isOver(record)) return { id: name, kind: "missing", text: `✗ ${name}: missing` };
    return { id: name, kind: "awaited", text: `· ${name}: not there yet` };
  });
}
