"use strict";
// Column heads sort their table; rows of references stay on top.
for (const button of document.querySelectorAll("thead button")) {
  button.addEventListener("click", () => {
    const head = button.parentElement;
    const body = head.closest("table").tBodies[0];
    const column = head.cellIndex;
    const ascending = head.getAttribute("aria-sort") !== "ascending";
    for (const other of head.parentElement.cells) other.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
    const key = (row) => {
      const cell = row.cells[column];
      return cell.dataset.value === undefined ? NaN : Number(cell.dataset.value);
    };
    const compare = (a, b) => {
      const pinned = b.classList.contains("reference") - a.classList.contains("reference");
      if (pinned) return pinned;
      const [x, y] = [key(a), key(b)];
      if (Number.isNaN(x) && Number.isNaN(y)) {
        const order = a.cells[column].textContent.localeCompare(b.cells[column].textContent, undefined, { numeric: true });
        return ascending ? order : -order;
      }
      if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y); // gaps last
      return ascending ? x - y : y - x;
    };
    body.append(...[...body.rows].sort(compare));
  });
}
// Commands are copied by a button; where a browser does not allow it, they are selected.
for (const button of document.querySelectorAll(".copy")) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    const command = button.previousElementSibling;
    try {
      await navigator.clipboard.writeText(command.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(command);
      button.textContent = "Selected";
    }
    setTimeout(() => (button.textContent = "Copy"), 2000);
  });
}
// On paper everything is open.
addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll("details")) details.open = true;
});
