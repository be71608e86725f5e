// The page: what is chosen, what is shown, and the controls.
"use strict";

const MOST_PIXELS = 60e6; // of an image: from there on, browsers run out of memory
const LONGEST = 16384; // pixels: the longest side that browsers draw
const SMALL = 64; // pixels: a model whose test images are no larger denoises digits and icons, which can be drawn
const SHOWN = 336; // pixels on the screen that small images are enlarged to
const KINDS = {
  mnist: "handwritten digits", emnist: "handwritten letters and digits", kmnist: "handwritten Japanese characters",
  "fashion-mnist": "clothes", photos: "photographs",
};
const KEPT_HERE = "It stays on this device: nothing is sent anywhere.";
const at = (id) => document.getElementById(id);
let model, manifest;
let trained = Infinity; // standard deviation of the strongest Gaussian noise in training, where there was some
let knowsClean = true; // whether the test images of the model have clean ones
let picture; // what is chosen
let shown = null; // what is denoised already: { before, after, twice }
const sigmas = { test: 0.1, file: 0 }; // standard deviations of the noise that is added
let seed = 1;
let newest = 0, running = Promise.resolve(); // the number of the work that was asked for last, and its end

const ready = start().catch((error) => tell(
  location.protocol === "file:"
    ? "Browsers do not let a page that was opened from disk read other files. Serve the folder instead:\npython -m pipeline demo FOLDER"
    : `The model could not be loaded: ${error.message ?? error}\nIf the two files of onnxruntime-web are missing from ` +
      "demo/ort/, this command adds them: python -m pipeline demo FOLDER"));

async function start() {
  const response = await fetch("../manifest.json");
  if (!response.ok) throw new Error(`manifest.json: ${response.status}`);
  manifest = await response.json();
  describe();
  if (![1, 3].includes(manifest.channels)) throw new Error(`its images have ${manifest.channels} channels, which this page cannot show.`);
  model = { run: startModel(), channels: manifest.channels, halo: manifest.halo };
  at("clip").checked = manifest.trained_on.input_clipped;
  knowsClean = manifest.samples_are_clean !== false;
  const variance = /variance=([\d.e-]+)(,|$)/.exec(manifest.trained_on.noise); // null if it is a range
  if (variance) sigmas.test = Math.sqrt(Number(variance[1]));
  const most = [...manifest.trained_on.noise.matchAll(/variance=(?:[\d.e-]+:)?([\d.e-]+)/g)].map((found) => Number(found[1]));
  if (most.length) trained = Math.sqrt(Math.max(...most)) + 1e-9;
  if (trained <= at("sigma").max) {
    at("trained").value = trained.toFixed(3);
    at("trained").label = "training";
  }
  if (!knowsClean) sigmas.test = 0; // the samples are noisy already, and nobody has clean ones
  await model.run(new Float32Array(manifest.channels * 784), [1, manifest.channels, 28, 28]); // the first run is slow
  await showSamples();
  window.denoiser = { run: model.run }; // tells tests that the page is ready
}

function describe() {
  const { dataset } = manifest.trained_on;
  const what = KINDS[dataset] ? `${manifest.channels === 3 ? "colour " : "gray "}${KINDS[dataset]}`
    : `${manifest.channels === 3 ? "colour" : "gray"} images like those of “${dataset}”`;
  at("about").textContent = `This model removes noise from ${what}. Other images it may spoil.`;
  const [, noise] = /( with .*)$/.exec(manifest.description) ?? [, "."];
  at("details").textContent = `It was trained${noise} It runs in this browser, from the file model.onnx.`;
}

async function showSamples() {
  for (let index = 0; index < manifest.samples; index++) {
    const image = new Image();
    image.src = `../samples/${index}_${knowsClean ? "clean" : "noisy"}.png`;
    image.alt = `test image ${index + 1}`;
    const button = document.createElement("button");
    button.type = "button";
    button.append(image);
    button.addEventListener("click", () => take(image, "sample", button));
    at("samples").append(button);
  }
  const first = at("samples").firstElementChild, [image] = first.children;
  await image.decode();
  const isTiny = Math.max(image.naturalWidth, image.naturalHeight) <= SMALL;
  at("samples").classList.toggle("tiny", isTiny);
  at("drawing").hidden = !isTiny;
  await take(image, "sample", first);
}

// Use an image, a canvas or a bitmap. `from`: "sample", "drawing" or the name of a file.
async function take(source, from, button) {
  if (!model) return;
  tell("");
  const width = source.naturalWidth ?? source.width, height = source.naturalHeight ?? source.height;
  if (width * height > MOST_PIXELS || Math.max(width, height) > LONGEST) {
    tell(`${from} has ${width} × ${height} pixels, more than this page can hold. This takes it: python -m pipeline denoise`);
    return;
  }
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [width, height];
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "#fff"; // behind transparent pixels
  context.fillRect(0, 0, width, height);
  context.drawImage(source, 0, 0);
  const { data } = context.getImageData(0, 0, width, height);
  const isFile = !["sample", "drawing"].includes(from);
  picture = { width, height, data, isGray: isGray(data), isFile, name: isFile ? from.replace(/\.[^.]*$/, "") : from };
  for (const other of at("samples").children) other.setAttribute("aria-pressed", String(other === button));
  if (isFile) sigmas.file = 0; // it has noise of its own, if any
  else at("file").value = "";
  at("sigma").value = sigmas[isFile ? "file" : "test"];
  at("size").textContent = isFile ? `${from}: ${width} × ${height} pixels` : KEPT_HERE;
  for (const id of ["before", "after"]) [at(id).width, at(id).height] = [width, height];
  for (const id of ["before", "after"]) paint(id, data);
  placeStage();
  await denoise();
}

function isGray(data) {
  for (let i = 0; i < data.length; i += 4) if (data[i] !== data[i + 1] || data[i] !== data[i + 2]) return false;
  return true;
}

// Denoise the picture with the noise that is set.
function denoise() {
  shown = null;
  at("save").disabled = true;
  nameSides();
  return replaceWork(async (isStale) => {
    const begin = performance.now();
    shown = await pass(picture, { sigma: sigma(), seed, isClipped: at("clip").checked }, isStale);
    if (shown && strength() > 1) await passAgain(isStale);
    if (!shown || isStale()) return;
    const seconds = (performance.now() - begin) / 1000;
    at("time").textContent = `${seconds < 1 ? `${(1000 * seconds).toFixed(0)} ms` : `${seconds.toFixed(1)} s`} for ` +
      `${picture.width} × ${picture.height} pixels${picture.isGray ? "" : " in colour"}, on one thread.` + (isMeasured() ? ` PSNR against the ${reference()}.` : "");
    show();
    tell(isStrange() ? "This image does not look like what this model was trained on, and it may be spoiled." : "");
  });
}

// Whether more was removed than the noise that the model knows.
function isStrange() {
  const [, clipped] = manifest.removed_correlation ?? [0, 1];
  return removedCorrelation(shown.before, shown.after, picture) > clipped;
}

// The picture before and after the model, painted as it comes; null if something else is wanted by now.
function pass(source, noise, isStale) {
  return denoisePicture(model, source, noise, (share, before, after, { left, top, right, bottom }) => {
    if (isStale()) return false;
    at("progress").hidden = share === 1;
    at("progress").value = share;
    if (share < 1) at("time").textContent = `Denoising: ${Math.floor(100 * share)} %`;
    for (const [id, data] of Object.entries({ before, after })) paint(id, data, left, top, right - left, bottom - top);
    return true;
  });
}

// What the model makes of its own result: for a strength above 1.
async function passAgain(isStale) {
  const once = shown;
  once.isPassedAgain = true;
  const found = await pass({ ...picture, data: once.after }, { sigma: 0 }, isStale);
  if (found) once.twice = found.after;
}

// Begin this work when what runs now has stopped: it is given up.
function replaceWork(work) {
  const mine = ++newest, former = running;
  running = (async () => {
    await former;
    if (mine !== newest) return;
    try {
      await work(() => mine !== newest);
    } catch (error) {
      tell(`The image could not be denoised: ${error.message ?? error}`);
    } finally {
      at("progress").hidden = true;
    }
  })();
  return running;
}

// Paint both sides: what the strength makes of the model's result, and what it is compared with.
function show() {
  if (!shown) return;
  const { before, after, twice } = shown, wanted = strength();
  const result = wanted <= 1 ? between(before, after, wanted) : between(after, twice ?? after, 2 * (wanted - 1));
  paint("after", result);
  paint("before", { before, original: picture.data, removed: at("left").value === "removed" ? removed(before, result) : null }[at("left").value]);
  at("save").disabled = false;
  at("before-psnr").textContent = isMeasured() && at("left").value === "before" ? decibels(before) : "";
  at("after-psnr").textContent = isMeasured() ? decibels(result) : "";
}

// Whether it is known what the picture is without the noise: not for a noisy test image, nor for a file as it is.
const isMeasured = () => (picture.isFile ? sigma() > 0 : knowsClean);
const reference = () => (picture.isFile ? "image as chosen" : "clean image");

function decibels(data) {
  const value = psnr(data, picture.data);
  return value === Infinity ? `equal to the ${reference()}` : `${value.toFixed(2)} dB`;
}

function nameSides() {
  const isClean = knowsClean && !picture.isFile, variance = sigma() ** 2;
  at("original").textContent = isClean ? "clean" : "as chosen";
  at("original").hidden = at("original").disabled = sigma() === 0;
  if (sigma() === 0 && at("left").value === "original") at("left").value = "before";
  at("first").textContent = sigma() > 0 ? "noisy" : isClean ? "clean" : "as chosen";
  at("left-name").textContent = at("left").selectedOptions[0].textContent;
  at("level").textContent = sigma() === 0 ? "none"
    : `variance ${variance.toPrecision(2)}, standard deviation ${sigma().toFixed(3)} (${(255 * sigma()).toFixed(0)} of 255)` +
      (sigma() > trained ? ", more than it was trained for" : "");
  at("again").disabled = at("clip").disabled = sigma() === 0;
  at("strength-value").textContent = { 0: "0, nothing is removed", 1: "1, what the model removes", 1.5: "1.5, denoised twice" }[strength()] ?? strength();
}

// Draw pixels on a canvas; only a part of them if one is given.
function paint(id, data, ...part) {
  at(id).getContext("2d").putImageData(new ImageData(data, picture.width, picture.height), 0, 0, ...part);
}

function tell(text) {
  at("message").textContent = text;
}

// The stage: two pictures above each other, and a line up to which the upper one is seen.
function placeStage() {
  if (!picture) return;
  const { width, height } = picture, isActual = at("actual").getAttribute("aria-pressed") === "true";
  const room = at("stage").parentElement, { paddingLeft, paddingRight } = getComputedStyle(room);
  const fitting = Math.min(
    (room.clientWidth - parseFloat(paddingLeft) - parseFloat(paddingRight)) / width,
    (0.8 * innerHeight) / height,
    Math.max(1, SHOWN / Math.max(width, height)),
  );
  at("actual").disabled = fitting >= 1;
  const scale = isActual && fitting < 1 ? 1 : fitting;
  for (const id of ["before", "after"]) {
    at(id).style.width = `${Math.max(1, scale * width)}px`;
    at(id).style.height = `${Math.max(1, scale * height)}px`;
  }
  at("layers").classList.toggle("enlarged", scale > 1);
  at("view").classList.toggle("actual", isActual && fitting < 1);
  at("view").tabIndex = isActual && fitting < 1 ? 0 : -1; // so that keys scroll it
  wipe();
}

function wipe() {
  const view = at("view"), x = (at("wipe").value / 100) * view.clientWidth;
  at("line").style.left = `${x}px`;
  [at("line").style.top, at("line").style.height] = [`${view.offsetTop}px`, `${view.clientHeight}px`];
  at("before").style.clipPath = `inset(0 ${at("before").offsetWidth - view.scrollLeft - x}px 0 0)`;
  at("wipe").setAttribute("aria-valuetext", `${at("wipe").value} % before, ${100 - at("wipe").value} % denoised`);
}

function pull(event) {
  const box = at("view").getBoundingClientRect();
  at("wipe").value = (100 * (event.clientX - box.left)) / box.width;
  wipe();
}

// The controls.
const sigma = () => Number(at("sigma").value), strength = () => Number(at("strength").value);
at("sigma").addEventListener("input", () => { sigmas[picture.isFile ? "file" : "test"] = sigma(); denoise(); });
at("clip").addEventListener("change", denoise);
at("again").addEventListener("click", () => { seed++; denoise(); });
at("left").addEventListener("change", () => { nameSides(); show(); });
at("strength").addEventListener("input", () => {
  nameSides();
  if (!shown || (shown.isPassedAgain && !shown.twice)) return; // it is shown when it is there
  if (strength() > 1 && !shown.twice) replaceWork(async (isStale) => { await passAgain(isStale); show(); });
  else show();
});
at("wipe").addEventListener("input", wipe);
at("view").addEventListener("scroll", wipe);
at("view").addEventListener("pointerdown", (event) => {
  const isScrolled = at("view").classList.contains("actual") && event.pointerType !== "mouse"; // by a finger
  if (event.button !== 0 || event.target === at("view") || isScrolled) return; // the view itself: its scroll bars
  event.preventDefault();
  at("view").setPointerCapture(event.pointerId);
  pull(event);
});
at("view").addEventListener("pointermove", (event) => { if (at("view").hasPointerCapture(event.pointerId)) pull(event); });
at("actual").addEventListener("click", () => {
  at("actual").setAttribute("aria-pressed", String(at("actual").getAttribute("aria-pressed") !== "true"));
  placeStage();
});
addEventListener("resize", placeStage);
at("save").addEventListener("click", () => at("after").toBlob((blob) => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = `${picture.name}-denoised.png`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}, "image/png"));

async function open(file) {
  if (!file) return;
  await ready; // it may be chosen before the model is loaded
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    tell(`${file.name} is not an image that this browser can read.`);
    return;
  }
  await take(bitmap, file.name);
  bitmap.close();
}
at("file").addEventListener("change", (event) => open(event.target.files[0]));
at("file").addEventListener("click", (event) => { event.target.value = ""; }); // so that the same file can be chosen again
for (const kind of ["dragenter", "dragover"])
  document.addEventListener(kind, (event) => { event.preventDefault(); at("drop").classList.add("over"); });
for (const kind of ["dragleave", "drop"])
  document.addEventListener(kind, () => at("drop").classList.remove("over"));
document.addEventListener("drop", (event) => { event.preventDefault(); open(event.dataTransfer.files[0]); });
