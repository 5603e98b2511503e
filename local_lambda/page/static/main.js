"use strict";
// Takes what the server sends, or what is in this file, and draws it: at most once for each frame of the screen.

const page = {
  isPlanned: false,

  start() {
    timeline.start();
    records.start();
    const data = byId("data").textContent;
    if (data) this.open(JSON.parse(data));
    else this.follow();
  },

  // Show a report: what was known at one moment.
  open(data) {
    controls.hide();
    model.take(data);
    model.now = () => data.now;
    setText(byId("live"), `as it was on ${new Date(data.now * 1000).toLocaleString()}`);
    this.changed();
  },

  // Follow the server. After a lost connection the browser asks again, and everything is sent anew.
  follow() {
    const stream = new EventSource("events");
    let isFirst = true;
    stream.addEventListener("start", (message) => {
      if (isFirst) controls.start(JSON.parse(message.data).event);
      isFirst = false;
      model.forget();
      setText(byId("live"), "live");
    });
    stream.addEventListener("rows", (message) => {
      model.take(JSON.parse(message.data));
      this.changed();
    });
    stream.addEventListener("error", () => setText(byId("live"), "not connected: the local Lambda has ended"));
  },

  changed() {
    if (this.isPlanned) return;
    this.isPlanned = true;
    requestAnimationFrame(() => {
      this.isPlanned = false;
      controls.show();
      panels.show();
      timeline.show();
      records.show();
    });
  },
};

page.start();
