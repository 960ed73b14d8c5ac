/**
 * Counts the views of a page, and what happens on it, with a Footfall server. It sets no cookie and stores nothing.
 *
 * `build.py` makes `/script.js` of this file: it removes the word `export`, calls `startFromTag` and shortens names. The
 * script may have 1,500 bytes, compressed, so some things are said here in the way that is shortest. The syntax is that
 * of ES2018, which all browsers have read for years.
 */

/** What a link to a file ends in. */
const FILE = /\.(7z|apk|csv|dmg|docx?|epub|exe|gz|mp[34]|msi|pdf|pptx?|xlsx?|zip)$/i;

/**
 * Begin to count this page, and all that a single-page application shows after it.
 *
 * @param {import("./footfall").Options} options which site, which server, and what to leave out
 * @returns {import("./footfall").Footfall} tells of an event
 */
export function start({ site, api, skip }) {
  const skips = (what) => `${skip} `.split(" ").includes(what);

  let calls = []; // of `footfall`, until the page is seen for the first time
  let page; // the path of the last view
  let route; // what tells that view from the next one
  let referrer = document.referrer;
  if (referrer.split("/")[2] == location.host) {
    referrer = "";
  }

  let isInFront; // since `since`
  let since;
  let engagedMs = 0;
  let deepest; // pixels, because a page may grow
  let toldDepth; // percent

  const waiting = []; // to be sent again, a hundred at most
  let timer;
  let pauseMs = 1e3;

  // Sending. An event that fails waits in memory, and is sent again with the same id, so that it counts once.

  function tell(event_type, props, fields) {
    if (event_type == "page_view") {
      leave();
      page = path(location.search).slice(0, 2048); // the longest that the server takes
      route = path("");
      deepest = toldDepth = engagedMs = 0;
    }
    const madeAt = new Date();
    const event = {
      site_id: site,
      event_type,
      event_id: crypto.getRandomValues(new Uint32Array(4)).join("-"), // randomUUID needs https
      path: page,
      referrer: referrer.slice(0, 2048),
      screen_width: screen.width,
      language: navigator.language,
      props,
      ...fields,
    };
    referrer = ""; // of what follows, this page is the referrer

    const send = () => {
      if (new Date() - madeAt > 6e4) {
        event.timestamp = madeAt; // the browser's clock may be wrong, but not as wrong as the time of receipt
      }
      const body = JSON.stringify(event); // text goes as text/plain, which needs no preflight
      if ("keepalive" in Request.prototype) {
        fetch(api, { method: "POST", body, keepalive: true }).then(
          (answer) => (/^5|429/.test(answer.status) ? keep() : (pauseMs = 1e3)),
          keep,
        );
      } else if (!navigator.sendBeacon(api, body)) {
        keep();
      }
    };
    const keep = () => {
      waiting[99] || waiting.push(send);
      timer = timer || setTimeout(sendAgain, (pauseMs *= 1 + Math.random())); // longer each time, not the same for all
    };
    send();
  }

  /** What happens by itself can be left out. */
  const notice = (event_type, props, fields) => skips(event_type) || tell(event_type, props, fields);

  function sendAgain() {
    timer = clearTimeout(timer);
    waiting.splice(0).forEach((send) => send());
  }

  // Pages. A path makes a page; a query does not, nor does a fragment, unless it is the route of an application.

  const path = (query) => location.pathname + query + (location.hash.match(/^#!?\/.*/) || "");
  const whenMoved = () => route == path("") || notice("page_view");

  // How long the page was in front, and how far it was scrolled.

  function measure() {
    const now = performance.now();
    engagedMs += isInFront ? now - since : 0;
    since = now;
    isInFront = !document.hidden && document.hasFocus();
    deepest = Math.max(deepest, scrollY + innerHeight);
  }

  function leave() {
    measure();
    const depth = Math.min(100, Math.round((100 * deepest) / document.documentElement.scrollHeight));
    if (page && (engagedMs > 999 || depth > toldDepth)) {
      notice("engagement", undefined, { engaged_ms: Math.round(engagedMs), scroll_depth: depth });
      engagedMs = 0;
      toldDepth = depth;
    }
    sendAgain(); // perhaps the last chance
  }

  // Clicks.

  function click(event) {
    const closest = (selector) => event.composedPath().find((node) => node.matches && node.matches(selector));
    const marked = closest("[data-footfall-event]");
    const link = closest("a,area");
    if (event.button > 1) {
      return; // the right button opens a menu
    }
    if (marked) {
      const props = {};
      for (const { name, value } of marked.attributes) {
        if (name.startsWith("data-footfall-event-")) {
          props[name.slice(20)] = value;
        }
      }
      tell(marked.getAttribute("data-footfall-event"), props);
    } else if (/^http/.test(link)) {
      const props = { url: link.origin + link.pathname }; // a query may hold what nobody should store
      if (link.hasAttribute("download") || FILE.test(link.pathname)) {
        notice("file_download", props);
      } else if (link.host != location.host) {
        notice("outbound_link", props);
      }
    }
  }

  // The beginning: when a page that was loaded ahead, or in a tab behind, is seen.

  function begin() {
    if (
      // Such a page is visible before it is told that it is no longer prerendering. What it sends between the two is
      // marked as prefetched, and not counted.
      document.prerendering ||
      document.hidden ||
      skips(location.hostname) || // a file that somebody has opened has none, and is always skipped
      (skips("gpc") && navigator.globalPrivacyControl) ||
      (skips("dnt") && navigator.doNotTrack == 1)
    ) {
      return;
    }
    notice("page_view");
    calls.forEach((call) => tell(...call));
    calls = null;
    for (const method of ["pushState", "replaceState"]) {
      const original = history[method];
      history[method] = (...call) => {
        original.apply(history, call);
        whenMoved();
      };
    }
  }

  const listeners = {
    prerenderingchange: measure,
    visibilitychange: leave,
    pagehide: leave,
    pageshow: (event) => event.persisted && notice("page_view"), // out of the back/forward cache
    popstate: whenMoved,
    online: sendAgain,
    focus: measure,
    blur: measure,
    scroll: measure,
    click,
    auxclick: click,
  };
  for (const type in listeners) {
    addEventListener(type, (event) => (calls ? begin() : listeners[type](event)), true);
  }
  begin();
  return (...call) => (calls ? calls.push(call) : tell(...call));
}

/** Begin with the options of the `script` element that this is in, and make `footfall` known to the page's scripts. */
export function startFromTag() {
  const { src, dataset } = document.currentScript;
  const before = window.footfall || {}; // a function that keeps calls in `q`, if the page has one
  if (!before.isOn) {
    // else the script is in the page twice
    const footfall = (window.footfall = start({
      site: dataset.site || dataset.domain || location.hostname,
      api: dataset.api || src.replace(/(js\/)?[^/]*$/, "event"),
      skip: dataset.skip,
    }));
    footfall.isOn = true;
    (before.q || []).forEach((call) => footfall(...call));
  }
}
