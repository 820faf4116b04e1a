// What ringing sounds like, made here and not played from a file: a call that comes, and one that is being made.
interface Note { at: number; frequency: number; lasts: number }

const patterns: Record<"incoming" | "outgoing", { every: number; loud: number; notes: Note[] }> = {
  incoming: {
    every: 2600, loud: 0.16,
    notes: [[0, 659], [0.18, 784], [0.36, 988], [0.72, 784], [0.9, 988]].map(([at, frequency]) => ({ at: at!, frequency: frequency!, lasts: 0.34 })),
  },
  outgoing: { every: 4000, loud: 0.05, notes: [{ at: 0, frequency: 425, lasts: 1 }] },
};

// Plays until it is stopped. A page nobody has touched must not play, and stays silent.
export function play(kind: keyof typeof patterns): () => void {
  const { every, loud, notes } = patterns[kind];
  const context = new AudioContext();
  const round = () => { for (const note of notes) sound(context, note, loud); };
  round();
  const timer = setInterval(round, every);
  return () => {
    clearInterval(timer);
    void context.close();
  };
}

function sound(context: AudioContext, { at, frequency, lasts }: Note, loud: number) {
  const begin = context.currentTime + at, end = begin + lasts;
  const gain = context.createGain(), tone = context.createOscillator();
  gain.gain.setValueAtTime(0, begin); // neither end clicks
  gain.gain.linearRampToValueAtTime(loud, begin + 0.02);
  gain.gain.setValueAtTime(loud, Math.max(begin + 0.02, end - 0.2));
  gain.gain.linearRampToValueAtTime(0, end);
  tone.frequency.value = frequency;
  tone.connect(gain).connect(context.destination);
  tone.start(begin);
  tone.stop(end);
}
