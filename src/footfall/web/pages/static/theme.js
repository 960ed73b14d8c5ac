// Before anything is drawn: light or dark, as the reader chose on these pages.
try {
  const chosen = localStorage.getItem("footfall-theme");
  if (chosen) document.documentElement.dataset.theme = chosen;
} catch { /* no storage: the system decides */ }
