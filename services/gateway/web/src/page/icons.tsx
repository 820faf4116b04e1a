// Line icons, drawn in the colour of the text around them. They are never the only name of a button.
const paths = {
  back: "M15 5l-7 7 7 7", close: "M6 6l12 12M18 6L6 18", send: "M4 12l16-8-5 16-3.5-6.500z", plus: "M12 5v14M5 12h14",
  people: "M9 11a3.5 3.5 0 100-7 3.5 3.5 0 000 7zM2.5 20c.5-4 3-6 6.5-6s6 2 6.5 6M16 4.500a3.3 3.3 0 010 6.300M18 14.500c2 .8 3.2 2.7 3.5 5.5",
  settings: "M12 15a3 3 0 100-6 3 3 0 000 6zM12 2.800v3M12 18.200v3M2.8 12h3M18.2 12h3M5.5 5.500l2.1 2.100M16.4 16.400l2.1 2.100M18.5 5.500l-2.1 2.100M7.6 16.400l-2.1 2.1",
  search: "M10.5 17a6.5 6.5 0 100-13 6.5 6.5 0 000 13zM15.5 15.500L21 21", more: "M5.5 12h.01M12 12h.01M18.5 12h.01",
  reply: "M9 6l-5 5 5 5M4 11h9c4 0 6 2.5 7 7", react: "M12 21a9 9 0 100-18 9 9 0 000 18zM8.5 14.500c1 1.3 2 2 3.5 2s2.5-.7 3.5-2M9 9.500h.01M15 9.500h.01",
  sent: "M5 12.500l4.5 4.500L19 7.5", both: "M2 12.500l4.5 4.500L16 7.500M11.5 16l1 1L22 7.5", clock: "M12 21a9 9 0 100-18 9 9 0 000 18zM12 7v5.500l3.5 2",
  shield: "M12 3l8 3v5.500c0 5-3.3 8.2-8 9.7-4.7-1.5-8-4.7-8-9.700V6zM8.5 12l2.5 2.5 4.5-5", warning: "M12 4L2.5 20h19zM12 10v4.500M12 17.500h.01",
  info: "M12 21a9 9 0 100-18 9 9 0 000 18zM12 11v5.5M12 7.500h.01",
  lock: "M6 11h12v9H6zM8.5 11V8a3.5 3.5 0 017 0v3", down: "M6 9.500l6 6 6-6", edit: "M4 20l1-4.500L16 4.500l3.5 3.500L8.5 19zM14 6.500l3.5 3.5", trash: "M5 7h14M10 7V4.500h4V7M7 7l1 13h8l1-13",
  copy: "M9 9h11v11H9zM5 15H4V4h11v1", bell: "M6 16V11a6 6 0 0112 0v5l1.5 2h-15zM10 20.500h4",
};

export type IconName = keyof typeof paths;

export const Icon = ({ name, size = 20 }: { name: IconName; size?: number }) => (
  <svg viewBox="0 0 24 24" width={size} height={size} fill="none" stroke="currentColor" stroke-width={name === "more" ? 3 : 1.8} stroke-linecap="round" stroke-linejoin="round" aria-hidden="true">
    <path d={paths[name]} />
  </svg>
);
