// SPDX-License-Identifier: GPL-2.0-or-later
"use strict";
(() => {
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const toggle = document.getElementById("theme");
  const isDark = () => (root.dataset.theme ?? (dark.matches ? "dark" : "light")) === "dark";
  const name = () => {
    toggle.textContent = isDark() ? "Light theme" : "Dark theme";
  };
  toggle.hidden = false;
  toggle.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    name();
  });
  dark.addEventListener("change", name);
  name();

  // One stop for the tab key in all of the grid; arrows go from CPU to CPU.
  const cells = [...document.querySelectorAll(".packages .cell")];
  const now = document.getElementById("now");
  const show = (cell) => {
    now.textContent = cell.title;
  };
  const go = (from, to) => {
    if (!to) return;
    from.tabIndex = -1;
    to.tabIndex = 0;
    to.focus();
  };
  const vertical = (cell, down) => {
    const here = cell.getBoundingClientRect();
    const middle = here.left + here.width / 2;
    const beyond = cells.filter((other) => {
      const top = other.getBoundingClientRect().top;
      return down ? top > here.top + 1 : top < here.top - 1;
    });
    const far = (other) => {
      const box = other.getBoundingClientRect();
      return Math.abs(box.top - here.top) * 1000 + Math.abs(box.left + box.width / 2 - middle);
    };
    return beyond.sort((a, b) => far(a) - far(b))[0];
  };
  cells.forEach((cell, at) => {
    cell.tabIndex = at === 0 ? 0 : -1;
    cell.addEventListener("focus", () => show(cell));
    cell.addEventListener("mouseenter", () => show(cell));
    cell.addEventListener("keydown", (event) => {
      const next = {
        ArrowRight: () => cells[at + 1],
        ArrowLeft: () => cells[at - 1],
        ArrowDown: () => vertical(cell, true),
        ArrowUp: () => vertical(cell, false),
        Home: () => cells[0],
        End: () => cells[cells.length - 1],
      }[event.key];
      if (!next) return;
      event.preventDefault();
      go(cell, next());
    });
  });

  // Paper has nothing to click on.
  const folded = [...document.querySelectorAll("details:not([open])")];
  const unfold = (open) => () => folded.forEach((one) => { one.open = open; });
  addEventListener("beforeprint", unfold(true));
  addEventListener("afterprint", unfold(false));
})();
