// SPDX-License-Identifier: GPL-2.0-or-later
// What the tests ask of a page.
"use strict";
globalThis.probes = (() => {
  const unfold = () => document.querySelectorAll("details").forEach((one) => { one.open = true; });
  const isShown = (element) => element.getClientRects().length > 0
    && getComputedStyle(element).visibility === "visible";
  const name = (element) => {
    const kind = element.getAttribute("class");
    return `${element.localName}${kind ? `.${kind}` : ""}: ${element.textContent.trim().slice(0, 60)}`;
  };

  // Elements that reach out of the page, other than inside a box that scrolls.
  const outside = () => {
    const wide = document.documentElement.clientWidth;
    const scrolls = (element) => element.closest(".box") !== null && !element.matches(".box");
    return [...document.body.querySelectorAll("*")].filter((element) => {
      const box = element.getBoundingClientRect();
      return isShown(element) && !scrolls(element) && (box.right > wide + 0.5 || box.left < -0.5);
    }).map(name);
  };

  // Text that does not fit into its own element, where that would hide it.
  const cut = () => [...document.body.querySelectorAll(".cell, button, .tag, th, td, dd, h1, h2, h3")]
    .filter((element) => isShown(element) && element.scrollWidth > element.clientWidth + 1)
    .filter((element) => element.clientWidth > 0).map(name);

  // Any colour of CSS as red, green, blue (0 to 255) and opacity.
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 1;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const colour = (text) => {
    context.clearRect(0, 0, 1, 1);
    context.fillStyle = text;
    context.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = context.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = (top, below) => {
    const mix = (at) => top[at] * top[3] + below[at] * (1 - top[3]);
    return [mix(0), mix(1), mix(2), 1];
  };
  const ground = (element) => {
    const layers = [];
    for (let at = element; at; at = at.parentElement) {
      layers.push(colour(getComputedStyle(at).backgroundColor));
    }
    return layers.reverse().reduce((below, top) => over(top, below), colour("Canvas"));
  };
  // WCAG 2.2: relative luminance, contrast ratio.
  const luminance = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((one) => one / 255)
      .map((one) => (one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4));
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const ratio = (one, other) => {
    const [dark, light] = [luminance(one), luminance(other)].sort((a, b) => a - b);
    return (light + 0.05) / (dark + 0.05);
  };
  const hasText = (element) => [...element.childNodes]
    .some((node) => node.nodeType === Node.TEXT_NODE && node.data.trim());
  const texts = () => [...document.body.querySelectorAll("*")].filter((element) =>
    hasText(element) && isShown(element) && !element.closest("title, script, style"));
  const contrasts = () => texts().map((element) => {
    const style = getComputedStyle(element);
    const below = ground(element);
    const ink = over(colour(element.closest("svg") ? style.fill : style.color), below);
    return { name: name(element), ratio: ratio(ink, below) };
  });

  // Text of a drawing that lies on something drawn, where its contrast is not that of the page.
  const covered = () => [...document.querySelectorAll("svg text")].flatMap((text) => {
    const at = text.getBoundingClientRect();
    return [...text.ownerSVGElement.querySelectorAll("rect")].filter((rect) => {
      const box = rect.getBoundingClientRect();
      return box.left < at.right && at.left < box.right && box.top < at.bottom && at.top < box.bottom;
    }).map(() => name(text));
  });

  // Labels of drawings that run into each other.
  const collisions = () => {
    const boxes = [...document.querySelectorAll("svg .tick")].map((one) => one.getBoundingClientRect());
    return boxes.filter((one, at) => boxes.some((other, place) =>
      place !== at && one.left < other.right && other.left < one.right
      && one.top < other.bottom && other.top < one.bottom)).length;
  };

  // What someone who can't see the page would miss.
  const unnamed = () => [
    ...[...document.querySelectorAll("[tabindex], button, svg[role=img]")].filter((element) =>
      !(element.getAttribute("aria-label") || element.textContent.trim())),
    ...[...document.querySelectorAll("section")].filter((section) =>
      !document.getElementById(section.getAttribute("aria-labelledby"))?.textContent.trim()),
    ...[...document.querySelectorAll("table")].filter((table) =>
      !table.querySelector("thead th[scope=col]") || !table.querySelector("tbody th[scope=row]")),
    ...[...document.querySelectorAll("a[href], [src]")],
  ].map(name);
  const headings = () => [...document.querySelectorAll("h1, h2, h3")]
    .map((one) => Number(one.localName[1]));
  const ids = () => {
    const all = [...document.querySelectorAll("[id]")].map((one) => one.id);
    return all.filter((id, at) => all.indexOf(id) !== at);
  };

  const size = () => [document.documentElement.scrollWidth, innerWidth];
  return { unfold, outside, cut, contrasts, covered, collisions, unnamed, headings, ids, size };
})();
