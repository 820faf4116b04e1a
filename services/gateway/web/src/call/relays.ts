// What the TURN servers answered a connection: without them there is none, and the browser says nothing of it by itself.
import type { Ice } from "./wire";

export type Transport = "udp" | "tcp" | "tls";

export interface RelayFacts { answered: Transport[]; refused: boolean; full: boolean; silent: Transport[] }

const unauthorized = 401, quotaReached = 486, noRoom = 508;

export function transportOf(url: string): Transport {
  if (url.startsWith("turns:")) return "tls";
  return url.includes("transport=tcp") ? "tcp" : "udp";
}

// Over one transport alone where the server has it, else over any.
export function configuration({ servers }: Ice, over?: Transport): RTCConfiguration {
  const wanted = servers.map((server) => ({ ...server, urls: server.urls.filter((url) => transportOf(url) === over) })).filter(({ urls }) => urls.length > 0);
  return { iceServers: wanted.length > 0 ? wanted : servers, iceTransportPolicy: "relay", bundlePolicy: "max-bundle" };
}

export class Relays {
  private readonly answered = new Set<Transport>();
  private readonly silent = new Set<Transport>();
  private refused = false;
  private full = false;

  constructor(private readonly pc: RTCPeerConnection) {
    pc.addEventListener("icecandidate", ({ candidate }) => {
      const { type, relayProtocol } = (candidate ?? {}) as RTCIceCandidate & { relayProtocol?: Transport };
      if (type === "relay") this.answered.add(relayProtocol ?? "udp");
    });
    pc.addEventListener("icecandidateerror", ({ errorCode, url }) => {
      if (errorCode === unauthorized) this.refused = true;
      else if (errorCode === quotaReached || errorCode === noRoom) this.full = true;
      else this.silent.add(transportOf(url));
    });
  }

  // What the next restart of ICE uses: credentials as they are now, and any way there is.
  renew(ice: Ice) { this.pc.setConfiguration(configuration(ice)); }

  // They are asked anew.
  restart() {
    this.refused = this.full = false;
    this.answered.clear();
    this.silent.clear();
  }

  get facts(): RelayFacts {
    return { answered: [...this.answered], refused: this.refused, full: this.full, silent: [...this.silent] };
  }
}
