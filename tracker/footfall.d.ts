/** What goes with an event; nothing nested. */
export type Props = Record<string, string | number | boolean | null>;

/** Fields of `POST /event` that replace those which the tracker fills in. */
export interface Fields {
  path?: string;
  referrer?: string;
  user_id?: string;
  /** `false` if the visitor did nothing, so that the visit may still be a bounce. */
  interactive?: boolean;
}

export interface Options {
  /** The `site_id` that the reports name. */
  site: string;
  /** The address of the server's `/event`. */
  api: string;
  /**
   * What is not counted, separated by spaces. Of what the tracker sends by itself: `page_view`, `engagement`,
   * `file_download`, `outbound_link`. Hosts whose pages are not counted at all, such as `localhost`. `gpc` and `dnt`:
   * visitors whose browsers send Global Privacy Control or Do Not Track.
   */
  skip?: string;
}

/** Tells of an event. `page_view` counts a view of the page that is shown now. */
export type Footfall = (name: string, props?: Props, fields?: Fields) => void;

/** Begin to count this page, and all that a single-page application shows after it. Call it once, in a browser. */
export function start(options: Options): Footfall;

declare global {
  interface Window {
    footfall?: Footfall;
  }
}
