"use strict";
const told = document.getElementById("told");
const ops = document.querySelectorAll(".op");
function choose(op) {
  for (const other of ops) other.classList.remove("chosen");
  op.classList.add("chosen");
  told.textContent = op.querySelector("title").textContent;
}
for (const op of ops) {
  op.addEventListener("click", () => choose(op));
  op.addEventListener("keydown", (event) => { if (event.key === "Enter") choose(op); });
}
function reveal(op) {
  const scroll = document.querySelector(".scroll");
  const bar = op.querySelector("rect");
  scroll.scrollLeft = Number(bar.getAttribute("x")) - scroll.clientWidth / 2;
}
for (const link of document.querySelectorAll("a[data-op]")) {
  link.addEventListener("click", (event) => {
    const op = document.getElementById("o" + link.dataset.op);
    if (!op) return;
    event.preventDefault();
    choose(op);
    reveal(op);
  });
}
const first = document.querySelector(".op.stuck") || document.querySelector(".op.core");
if (first) reveal(first);
