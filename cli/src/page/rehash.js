"use strict";
(() => {
  const box = document.getElementById("rehash");
  const told = document.getElementById("rehash-told");
  if (!box || !told) return;
  box.hidden = false;
  if (!(window.crypto && crypto.subtle)) {
    told.textContent = "This browser computes no digests for pages opened in this way; use `sha256sum` instead.";
    return;
  }
  const known = Array.from(document.querySelectorAll("[data-path]"), (cell) => ({
    path: cell.dataset.path,
    digest: cell.dataset.digest,
  }));
  const hex = (bytes) => Array.from(new Uint8Array(bytes), (byte) => byte.toString(16).padStart(2, "0")).join("");
  const last = (path) => path.split("/").pop();
  const say = (word, kind, text) => {
    const item = document.createElement("li");
    const chip = document.createElement("span");
    chip.className = `chip ${kind}`;
    chip.textContent = word;
    item.append(chip, ` ${text}`);
    told.append(item);
  };
  const judge = async (file) => {
    let digest;
    try {
      digest = hex(await crypto.subtle.digest("SHA-256", await file.arrayBuffer()));
    } catch (error) {
      say("could not tell", "maybe", `${file.name} cannot be read: ${error.message}`);
      return;
    }
    const same = known.find((entry) => entry.digest === digest);
    const named = known.find((entry) => last(entry.path) === last(file.name));
    if (same) say("matches", "yes", `${file.name} is ${same.path}: ${digest}`);
    else if (named) say("differs", "no", `${file.name} has ${digest}, and this page has ${named.digest} for ${named.path}`);
    else say("unknown", "maybe", `${file.name} has ${digest}, which is on this page for no file`);
  };
  const all = async (files) => {
    told.replaceChildren();
    for (const file of Array.from(files).sort((a, b) => (a.name < b.name ? -1 : 1))) await judge(file);
  };
  for (const input of box.querySelectorAll("input")) input.addEventListener("change", () => all(input.files));
  box.addEventListener("dragover", (event) => {
    event.preventDefault();
    box.classList.add("over");
  });
  box.addEventListener("dragleave", () => box.classList.remove("over"));
  box.addEventListener("drop", (event) => {
    event.preventDefault();
    box.classList.remove("over");
    all(event.dataTransfer.files);
  });
})();
