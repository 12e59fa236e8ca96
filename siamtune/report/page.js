// A trial touched anywhere is shown everywhere, with its dials in the line at the bottom.
const told = document.getElementById("told");
const marks = new Map();
for (const mark of document.querySelectorAll("[data-t]"))
  marks.set(mark.dataset.t, [...(marks.get(mark.dataset.t) ?? []), mark]);
let held = null;
function show(trial) {
  for (const mark of document.querySelectorAll(".hot")) mark.classList.remove("hot");
  told.hidden = trial === null;
  if (trial === null) return;
  for (const mark of marks.get(trial)) mark.classList.add("hot");
  told.textContent = document.querySelector(`tr[data-says][data-t="${trial}"]`)?.dataset.says ?? "";
}
function under(event) {
  return event.target.closest?.("[data-t]")?.dataset.t ?? null;
}
document.addEventListener("mouseover", (event) => show(under(event) ?? held));
document.addEventListener("click", (event) => {
  const trial = under(event);
  held = trial === held ? null : trial;
  show(held);
});
document.addEventListener("keydown", (event) => event.key === "Escape" && show((held = null)));
