"use strict";
(() => {
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const root = document.documentElement;

  // Theme: the reader's system decides until the button does.
  const button = document.getElementById("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const remembered = (() => { try { return localStorage.getItem("octavo-theme"); } catch { return null; } })();
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  const name = () => { button.textContent = isDark() ? "Light" : "Dark"; };
  if (remembered === "dark" || remembered === "light") root.dataset.theme = remembered;
  button.hidden = false;
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    try { localStorage.setItem("octavo-theme", root.dataset.theme); } catch { /* a page from a file may not */ }
    name();
  });
  system.addEventListener("change", name);
  name();

  // What is under the pointer.
  const tip = document.getElementById("tip");
  const place = (x, y) => {
    const box = tip.getBoundingClientRect();
    const left = Math.max(8, Math.min(x + 14, innerWidth - box.width - 8));
    const top = y + 18 + box.height > innerHeight ? y - box.height - 12 : y + 18;
    tip.style.left = `${left}px`;
    tip.style.top = `${Math.max(8, top)}px`;
  };
  const element = (tag, text) => Object.assign(document.createElement(tag), { textContent: text });
  const show = (value, x, y) => {
    tip.replaceChildren();
    if (typeof value === "string") {
      tip.append(element("p", value));
    } else {
      const [[, title], ...rest] = Object.entries(value);
      const list = document.createElement("dl");
      for (const [key, text] of rest) list.append(element("dt", key), element("dd", text));
      tip.append(element("p", title), list);
    }
    tip.hidden = false;
    place(x, y);
  };
  const hide = () => { tip.hidden = true; };
  addEventListener("scroll", hide, { passive: true, capture: true });

  // Charts: those in sight first, then all others, folded ones too, so that paper has them.
  const specs = JSON.parse(document.getElementById("specs").textContent);
  const waiting = new Set(all(".plot"));
  const pointed = (_, event, __, value) => {
    if (value == null || value === "") hide();
    else show(value, event.clientX, event.clientY);
  };
  const widthOf = (plot) => {
    const folded = [];
    for (let at = plot.parentElement; at; at = at.parentElement) {
      if (at.tagName === "DETAILS" && !at.open) folded.push(at);
    }
    for (const details of folded) details.open = true;
    const width = plot.clientWidth;
    for (const details of folded) details.open = false;
    return width;
  };
  const draw = (plot) => {
    if (!waiting.delete(plot)) return null;
    const spec = specs[plot.dataset.chart];
    spec.signals.find((signal) => signal.name === "width").init = String(widthOf(plot));
    const options = { mode: "vega", renderer: "svg", actions: false, defaultStyle: false, tooltip: pointed };
    return vegaEmbed(plot, spec, options).then(() => { plot.dataset.drawn = ""; });
  };
  const later = self.requestIdleCallback ?? ((work) => setTimeout(work, 50));
  const next = () => {
    const [plot] = waiting;
    if (plot) draw(plot).then(() => later(next));
    else root.dataset.ready = "";
  };
  const begin = () => {
    // The library is text until now: what can be read and sorted does not wait for it.
    document.head.append(element("script", document.getElementById("library").textContent));
    const seen = new IntersectionObserver((found) => {
      for (const { isIntersecting, target } of found) if (isIntersecting) draw(target);
    }, { rootMargin: "300px" });
    for (const plot of waiting) seen.observe(plot);
    next();
  };
  addEventListener("load", () => setTimeout(begin));
  const fit = () => dispatchEvent(new Event("resize")); // one that was folded has no width to follow
  for (const details of all("details")) details.addEventListener("toggle", () => { if (details.open) fit(); });

  // Print: everything is open.
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = all("details:not([open]):not(.data)");
    for (const details of opened) details.open = true;
    fit();
    hide();
  });
  addEventListener("afterprint", () => { for (const details of opened) details.open = false; });

  // Sorting; what was not measured stays last.
  for (const table of all("table.sortable")) {
    const heads = all("thead tr:last-child th", table);
    const body = table.tBodies[0];
    const key = (row, column) => {
      const cell = row.cells[column];
      return cell.dataset.sort === undefined ? cell.textContent.trim() : Number(cell.dataset.sort);
    };
    heads.forEach((head, column) => {
      head.querySelector("button").addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        for (const other of heads) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const rows = [...body.rows].map((row) => [key(row, column), row]);
        const numbers = rows.some(([value]) => typeof value === "number");
        const absent = ([value]) => numbers && typeof value !== "number";
        rows.sort((a, b) => {
          if (absent(a) || absent(b)) return absent(a) - absent(b);
          const order = numbers ? a[0] - b[0] : a[0].localeCompare(b[0]);
          return down ? -order : order;
        });
        body.append(...rows.map(([, row]) => row));
      });
    });
  }

  // The picture of the network: one stop of the tab key each, arrows within.
  for (const network of all(".network")) {
    const cells = all("[data-tip]", network);
    const told = (cell) => {
      const box = cell.getBoundingClientRect();
      show(cell.dataset.tip, box.left, box.bottom - 12);
    };
    cells.forEach((cell, i) => {
      cell.tabIndex = i === 0 ? 0 : -1;
      cell.addEventListener("pointermove", (event) => show(cell.dataset.tip, event.clientX, event.clientY));
      cell.addEventListener("pointerleave", hide);
      cell.addEventListener("focus", () => told(cell));
      cell.addEventListener("blur", hide);
    });
    network.addEventListener("keydown", (event) => {
      const at = cells.indexOf(document.activeElement);
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (event.key === "Escape") hide();
      if (at < 0 || step === undefined || !cells[at + step]) return;
      event.preventDefault();
      cells[at].tabIndex = -1;
      cells[at + step].tabIndex = 0;
      cells[at + step].focus();
    });
  }
})();
