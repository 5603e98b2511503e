"use strict";
// Building and keeping elements. Text goes in as text (textContent) and nothing else: no string here becomes HTML.

function byId(id) {
  return document.getElementById(id);
}

// An element with classes, text and children.
function make(tag, classes = "", text = null, ...children) {
  const element = document.createElement(tag);
  if (classes) element.className = classes;
  if (text !== null) element.textContent = text;
  element.append(...children);
  return element;
}

function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// Make `parent` hold one element for each row, in order. An element stays as long as its row is shown, so that focus,
// an open <details> and a selection stay too: `create` makes it, `update` writes the row into it.
function showRows(parent, rows, create, update) {
  const known = new Map([...parent.children].map((child) => [child.dataset.id, child]));
  let place = parent.firstChild;
  for (const row of rows) {
    let element = known.get(row.id);
    if (element === undefined) {
      element = create(row);
      element.dataset.id = row.id;
    }
    known.delete(row.id);
    update(element, row);
    if (element === place) place = place.nextSibling;
    else parent.insertBefore(element, place);
  }
  for (const element of known.values()) element.remove();
}

function milliseconds(value) {
  if (value === undefined || value === null) return "";
  if (Number.isInteger(value)) return String(value);
  return value >= 100 ? value.toFixed(0) : value.toFixed(1);
}

// A duration in the unit that suits it.
function duration(seconds) {
  if (seconds < 1) return `${milliseconds(seconds * 1000)} ms`;
  return seconds < 60 ? `${seconds.toFixed(1)} s` : `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
}

function clockTime(seconds) {
  const time = new Date(seconds * 1000);
  const two = (number) => String(number).padStart(2, "0");
  const parts = [time.getHours(), time.getMinutes(), time.getSeconds()].map(two);
  return `${parts.join(":")}.${String(time.getMilliseconds()).padStart(3, "0")}`;
}
