// A call as a person has it: what they do about it, and what they see and hear, in numbers.
import { type BrowserContext, expect, type Locator } from "@playwright/test";
import type { Person } from "./person";

const small = { width: 320, height: 180, frameRate: 10 }; // a machine that plays all the people at once has no more to give

export class InCall {
  constructor(readonly person: Person) {}

  get page() { return this.person.page; }
  get stage(): Locator { return this.page.locator(".stage"); }
  get ringing(): Locator { return this.page.getByRole("alertdialog"); }

  async place(media: "Call" | "Call with camera") { await this.page.locator(".head").getByRole("button", { name: media, exact: true }).click(); }
  async answer(how: "Answer" | "With camera") { await this.ringing.getByRole("button", { name: how, exact: true }).click(); }
  async decline() { await this.ringing.getByRole("button", { name: "Decline" }).click(); }
  async hangUp() { await this.page.getByRole("button", { name: "Hang up" }).click(); }

  // Ends what is shared as the browser's own bar does, which no test can press.
  endScreen() {
    return this.page.evaluate(() => {
      const [screen] = peers.flatMap((pc) => pc.getSenders()).filter(({ track }) => track?.contentHint === "detail");
      screen!.track!.dispatchEvent(new Event("ended"));
    });
  }

  async isOver() {
    await expect(this.stage).toBeHidden();
    if (await this.ringing.isVisible()) await this.ringing.getByRole("button", { name: "Close" }).click();
  }

  tile(name: string): Locator { return this.page.locator("figure.tile").filter({ has: this.page.locator(".name", { hasText: new RegExp(`^${name}$`) }) }); }

  // How many pictures of somebody were shown, whatever element shows them.
  frames(name: string): Promise<number> {
    return this.tile(name).evaluateAll((tiles) => tiles.reduce((sum, tile) => sum + (tile.querySelector("video")?.getVideoPlaybackQuality().totalVideoFrames ?? 0), 0));
  }

  // Pictures of somebody come, one after the other.
  async sees(name: string) {
    let before = Infinity;
    await expect.poll(async () => {
      const now = await this.frames(name), grown = now - before;
      before = now;
      return grown;
    }, { intervals: [250], message: `pictures of ${name}` }).toBeGreaterThan(0);
  }

  // Nothing of somebody is decoded.
  async seesNothing(name: string) {
    await expect(this.tile(name)).toBeVisible();
    await expect(this.tile(name).locator("video")).toHaveCount(0);
  }

  energy(): Promise<number> {
    return this.page.evaluate(async () => {
      let sum = 0;
      for (const pc of peers) for (const report of (await pc.getStats()).values()) if (report.type === "inbound-rtp" && report.kind === "audio") sum += report.totalAudioEnergy ?? 0;
      return sum;
    });
  }

  async hears() {
    const before = await this.energy();
    await expect.poll(() => this.energy(), { message: "sound" }).toBeGreaterThan(before + 0.001);
  }

  async meets(other: InCall) {
    await this.sees(other.person.account.name);
    await this.hears();
  }

  // Of how many pictures that come something grows within a second.
  async growing(what: "packetsReceived" | "framesDecoded"): Promise<number> {
    const counts = () => this.page.evaluate(async (name) => {
      const found: Record<string, number> = {};
      for (const [i, pc] of peers.entries()) for (const report of (await pc.getStats()).values()) if (report.type === "inbound-rtp" && report.kind === "video") found[i + report.mid] = report[name];
      return found;
    }, what);
    const before = await counts();
    await this.page.waitForTimeout(1000); // a second is what is measured
    return Object.entries(await counts()).filter(([place, count]) => count > (before[place] ?? 0)).length;
  }

  // By which way media goes: the type and protocol of our candidate of each connection, and its cipher.
  ways(): Promise<string[]> {
    return this.page.evaluate(async () => {
      const ways: string[] = [];
      for (const pc of peers) {
        const reports = await pc.getStats();
        for (const report of reports.values()) {
          const pair = report.type === "transport" && pc.connectionState === "connected" && reports.get(report.selectedCandidatePairId);
          const local = pair && reports.get(pair.localCandidateId);
          if (local) ways.push(`${local.candidateType} ${local.relayProtocol} ${report.srtpCipher}`);
        }
      }
      return ways;
    });
  }

  // Whether whatever sends and receives has a transform that encrypts.
  sealed(): Promise<boolean> {
    return this.page.evaluate(() => peers.flatMap((pc) => pc.getTransceivers()).every(({ currentDirection, sender, receiver }) =>
      (currentDirection !== "sendonly" || !!sender.transform) && (currentDirection !== "recvonly" || !!receiver.transform)));
  }

  // Milliseconds from doing something to the first picture of somebody.
  async firstPicture(name: string, act: () => Promise<unknown>): Promise<number> {
    await this.page.evaluate((wanted) => {
      firstPicture = new Promise((resolve, reject) => {
        let began = 0;
        setTimeout(() => reject(new Error("no picture came")), 20_000);
        addEventListener("click", () => { began = performance.now(); }, { once: true, capture: true });
        const look = setInterval(() => {
          const tile = [...document.querySelectorAll("figure.tile")].find((each) => each.querySelector(".name")?.textContent === wanted);
          if (!began || !tile?.querySelector("video")?.getVideoPlaybackQuality().totalVideoFrames) return;
          clearInterval(look);
          resolve(Math.round(performance.now() - began));
        }, 10);
      });
    }, name);
    await act();
    return this.page.evaluate(() => firstPicture);
  }

  // Begins to measure for how long no new picture of somebody is shown.
  async measure(name: string) {
    await this.sees(name);
    await this.page.evaluate((wanted) => {
      clearInterval(gaps.timer);
      let last = performance.now(), before = "";
      gaps = { longest: 0, timer: setInterval(() => {
        const tiles = [...document.querySelectorAll("figure.tile")].filter((each) => each.querySelector(".name")?.textContent === wanted);
        const now = tiles.map((tile) => tile.querySelector("video")?.getVideoPlaybackQuality().totalVideoFrames ?? 0).join();
        if (now !== before && !/^0?$/.test(now)) {
          last = performance.now();
          before = now;
        }
        gaps.longest = Math.max(gaps.longest, performance.now() - last);
      }, 20) as unknown as number };
    }, name);
  }

  longestGap(): Promise<number> { return this.page.evaluate(() => Math.round(gaps.longest)); }
}

declare let peers: RTCPeerConnection[];
declare let firstPicture: Promise<number>;
declare let gaps: { longest: number; timer: number };

// Has pages note their connections, and cameras give what many of them can bear.
export function prepare(context: BrowserContext) {
  return context.addInitScript((video) => {
    const made: RTCPeerConnection[] = [];
    Object.assign(window, { peers: made, gaps: { longest: 0, timer: 0 } });
    window.RTCPeerConnection = class extends RTCPeerConnection {
      constructor(configuration?: RTCConfiguration) {
        super(configuration);
        made.push(this);
      }
    };
    const take = navigator.mediaDevices?.getUserMedia.bind(navigator.mediaDevices);
    if (take) navigator.mediaDevices.getUserMedia = (wanted) => take(wanted?.video ? { ...wanted, video } : wanted);
  }, small);
}
