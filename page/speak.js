// Answers replace one another: a screen reader is told to read out the new one.
new MutationObserver(() => {
  for (const place of document.querySelectorAll(".spoken:not([aria-live])")) {
    place.setAttribute("aria-live", "polite");
  }
}).observe(document.documentElement, { childList: true, subtree: true });
