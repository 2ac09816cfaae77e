"use strict";
// The video beside its timeline: one playhead for both. A video loads when its player is opened, not before.
class Player {
  constructor(timeline, file) {
    this.timeline = timeline;
    this.address = `${data.player.beside}/${encodeURIComponent(file)}`;
    this.name = timeline.video.id;
    this.button = element("button", { type: "button", className: "quiet", textContent: "Video", title: `Show ${file}`, "aria-label": `Video of ${this.name}`, "aria-expanded": "false" });
    this.button.addEventListener("click", () => (this.node ? this.close() : this.open()));
    timeline.host.querySelector(".zoom").prepend(this.button);
    timeline.host.addEventListener("jump", (event) => this.seek(event.detail));
    timeline.host.addEventListener("toggle", () => this.toggle());
  }

  open() {
    this.node = element("video", { className: "player", controls: true, preload: "auto", playsInline: true, "aria-label": `Video ${this.name}` });
    this.playhead = element("div", { className: "playhead" });
    for (const name of ["timeupdate", "seeking", "seeked", "loadedmetadata"]) this.node.addEventListener(name, () => this.follow());
    this.node.addEventListener("play", () => this.animate());
    this.node.addEventListener("error", () => this.fail());
    this.timeline.host.prepend(this.node);
    this.timeline.canvas.append(this.playhead);
    this.button.setAttribute("aria-expanded", "true");
    this.node.src = this.address;
    const { active } = this.timeline;
    if (active) this.seek(this.timeline.bounds(active.name, active.index)[0]);
    this.follow();
  }

  close() {
    this.node.pause();
    this.node.remove();
    this.playhead.remove();
    this.node = null;
    this.button.setAttribute("aria-expanded", "false");
  }

  seek(seconds) {
    // A thousandth further, so that rounding cannot show the last picture of the segment before.
    if (this.node) this.node.currentTime = Math.max(0, seconds + 0.001);
  }

  toggle() {
    if (!this.node) this.open();
    if (this.node.paused) this.node.play().catch(() => this.fail());
    else this.node.pause();
  }

  animate() {
    if (!this.node || this.node.paused) return;
    this.follow();
    requestAnimationFrame(() => this.animate());
  }

  follow() {
    if (!this.node) return;
    const { start, end, scroller, canvas } = this.timeline;
    const share = Math.min(1, Math.max(0, (this.node.currentTime - start) / (end - start)));
    this.playhead.style.left = `${100 * share}%`;
    const x = share * canvas.clientWidth;
    const outside = x < scroller.scrollLeft || x > scroller.scrollLeft + scroller.clientWidth;
    if (outside && !this.node.paused) scroller.scrollLeft = x - scroller.clientWidth / 8;
  }

  fail() {
    if (!this.node?.error) return;
    this.timeline.readout.textContent = `The video cannot be played from ${this.address}. Put it there, or play another form of it.`;
  }
}

document.addEventListener("drawn", (event) => {
  const file = data.player.files[Number(event.target.dataset.timeline)];
  if (file) new Player(event.detail, file);
});
