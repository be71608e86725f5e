// The drawing pad, with the size and the stroke width of MNIST digits.
"use strict";

const pad = at("pad"), pen = pad.getContext("2d", { willReadFrequently: true });
let place = { x: 14, y: 14 };
pen.lineWidth = 2.4;
pen.lineCap = pen.lineJoin = "round";
pen.strokeStyle = "#fff";

function stroke(to) {
  pen.beginPath();
  pen.moveTo(place.x, place.y);
  pen.lineTo(to.x, to.y);
  pen.stroke();
  place = to;
  take(pad, "drawing");
}

function pointed(event) {
  const box = pad.getBoundingClientRect();
  return { x: ((event.clientX - box.left) * 28) / box.width, y: ((event.clientY - box.top) * 28) / box.height };
}

function clearPad() {
  pen.clearRect(0, 0, 28, 28);
  pen.fillStyle = "#000";
  pen.fillRect(0, 0, 28, 28);
  place = { x: 14, y: 14 };
}

pad.addEventListener("pointerdown", (event) => {
  pad.setPointerCapture(event.pointerId);
  place = pointed(event);
  stroke(place);
});
pad.addEventListener("pointermove", (event) => { if (event.buttons) stroke(pointed(event)); });
pad.addEventListener("keydown", (event) => {
  const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  if (event.key === "Delete") at("clear").click();
  if (!step) return;
  event.preventDefault();
  const to = { x: Math.min(27, Math.max(1, place.x + step[0])), y: Math.min(27, Math.max(1, place.y + step[1])) };
  if (event.shiftKey) stroke(to);
  else place = to;
});
at("clear").addEventListener("click", () => { clearPad(); take(pad, "drawing"); });
clearPad();
