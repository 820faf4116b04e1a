// The two connections of one joining, and how they are.
import type { Cipher } from "./cipher";
import { Down } from "./down";
import { Leg, type Step } from "./leg";
import { configuration } from "./relays";
import type { ConnectionFacts } from "./trouble";
import { Up } from "./up";
import type { Ice } from "./wire";

const udpWithin = 600; // milliseconds for the relay to answer over UDP

export class Connections {
  readonly up: Up;
  readonly down: Down;
  readonly made = performance.now();
  readonly upLeg = new Leg(this.made);
  readonly downLeg = new Leg(this.made);

  private wide = false;

  // Over UDP at first: a browser that had the choice would stop looking as soon as it has any connection, and stay with TCP.
  constructor(private ice: Ice, cipher: Cipher, changed: () => void) {
    this.up = new Up(configuration(ice, "udp"), cipher);
    this.down = new Down(configuration(ice, "udp"), cipher, changed);
  }

  // Whether the relay is silent over UDP, so that it is time to try all ways.
  get narrow() { return !this.wide && performance.now() - this.made > udpWithin && [this.up, this.down].some(({ relays }) => relays.facts.answered.length === 0); }

  // comes says whether something should come down now. Of what goes up, the SFU tells many times a second how pictures arrive (TWCC),
  // and of sound now and then.
  async look(comes: boolean) {
    const up = this.up.sends("video") ? 1500 : this.up.sends("audio") ? 3000 : 0;
    await Promise.all([see(this.up.pc, this.upLeg, up), see(this.down.pc, this.downLeg, comes ? 1500 : 0)]);
  }

  judge(now: number): { up: Step; down: Step } { return { up: this.upLeg.judge(now), down: this.downLeg.judge(now) }; }

  // Both are about to be restarted.
  restart(now: number) {
    this.wide = true;
    this.renew(this.ice);
    for (const leg of [this.upLeg, this.downLeg]) leg.restart(now);
    for (const { relays } of [this.up, this.down]) relays.restart();
  }

  // Both have worked.
  get stood() { return this.upLeg.up && this.downLeg.up; }

  get work() { return this.facts.every(({ connected }) => connected) && !this.upLeg.restarting && !this.downLeg.restarting; }

  get facts(): ConnectionFacts[] {
    return [this.up, this.down].map(({ pc, relays }) => ({ ...relays.facts, connected: pc.iceConnectionState === "connected" || pc.iceConnectionState === "completed" }));
  }

  renew(ice: Ice) {
    this.ice = ice;
    for (const { relays } of [this.up, this.down]) relays.renew(ice);
  }

  close() {
    this.up.close();
    this.down.close();
  }
}

async function see(pc: RTCPeerConnection, leg: Leg, patience: number) {
  let bytes = 0, answers = 0;
  for (const report of (await pc.getStats()).values()) {
    if (report.type === "transport") bytes += report.bytesReceived ?? 0;
    if (report.type === "candidate-pair") answers += report.responsesReceived ?? 0;
  }
  leg.see({ bytes, answers, state: pc.iceConnectionState, patience }, performance.now());
}
