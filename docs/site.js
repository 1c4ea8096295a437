// What the theme leaves out for people who do not see the page, or use no mouse.
function mend() {
  document.querySelector(".md-search")?.setAttribute("aria-label", "Search");
  for (const one of document.querySelectorAll("nav.md-code__nav")) one.setAttribute("role", "none");
  for (const one of document.querySelectorAll(".md-typeset__scrollwrap")) one.tabIndex = 0;
}
mend();
new MutationObserver(mend).observe(document.body, { childList: true, subtree: true });
