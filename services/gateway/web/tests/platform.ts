// Where the platform under test is, and each person's line to it.
import { execFile } from "node:child_process";
import { createServer } from "node:http";
import { connect, type AddressInfo, type Socket } from "node:net";
import { promisify } from "node:util";

// SECURECONNECT_URL is the client's address; SECURECONNECT_EDGE says where its name leads, as a hosts line would, and
// SECURECONNECT_PIN which public key its certificates come from. SECURECONNECT_ACCOUNTS are accounts nobody has used
// yet: name:password, parted by blanks. SECURECONNECT_NODE is the container that plays app-01. SECURECONNECT_FRIEND is somebody
// who has asked the first of the accounts to be a contact, and answers as services/e2e/friend_test.go says. SECURECONNECT_TURN is where the
// name of the TURN server leads, and SECURECONNECT_TURN_NODE the container that plays its host.
const { SECURECONNECT_URL, SECURECONNECT_EDGE = "", SECURECONNECT_PIN, SECURECONNECT_ACCOUNTS = "", SECURECONNECT_NODE = "", SECURECONNECT_FRIEND = "", SECURECONNECT_TURN = "", SECURECONNECT_TURN_NODE = "" } = process.env;

export const url = SECURECONNECT_URL ?? "https://chat.secureconnect.com";
export const pin = SECURECONNECT_PIN;
export const friend = SECURECONNECT_FRIEND;
export const turn = { name: new URL(url).hostname.replace("chat.", "turn."), address: SECURECONNECT_TURN };
export const accounts = SECURECONNECT_ACCOUNTS.split(" ").filter(Boolean).map((account) => {
  const [name, password] = account.split(":") as [string, string];
  return { name, password };
});

// Takes app-01 the power, and gives it back.
export const appHost = (what: "kill" | "start") => promisify(execFile)("docker", [what, SECURECONNECT_NODE]);

// Lets no packet of UDP from here to the TURN server, or lets them through again.
export async function udp(what: "cut" | "mend") {
  const nft = (...rule: string[]) => promisify(execFile)("docker", ["exec", SECURECONNECT_TURN_NODE, "nft", ...rule]);
  if (what === "mend") return void await nft("delete", "table", "inet", "cut");
  await nft("add table inet cut; add chain inet cut in { type filter hook prerouting priority -300; }; add chain inet cut out { type filter hook output priority -300; }; " +
    "add rule inet cut in udp dport 3478 drop; add rule inet cut out udp sport 3478 drop");
}

// Something that a test opens, and that others wait for.
export function gate() {
  let open!: () => void;
  const opened = new Promise<void>((done) => { open = done; });
  return { open, opened };
}

// A line is a proxy that can be cut: what runs over it ends, and nothing gets through until it is mended.
export class Line {
  private readonly server = createServer();
  private readonly ends = new Set<Socket>();
  private down = false;

  private constructor() {
    this.server.on("connect", (request, near: Socket, head: Buffer) => {
      if (this.down) return near.destroy();
      const [name, port] = request.url!.split(":") as [string, string];
      const [host, edgePort] = name.replace(/\.$/, "") === turn.name && turn.address ? [turn.address] : SECURECONNECT_EDGE ? SECURECONNECT_EDGE.split(":") : [name];
      const far = connect(Number(edgePort ?? port), host);
      far.once("connect", () => {
        near.write("HTTP/1.1 200 OK\r\n\r\n");
        far.write(head);
        near.pipe(far).pipe(near);
      });
      for (const [end, other] of [[near, far], [far, near]] as const) {
        this.ends.add(end);
        end.on("error", () => other.destroy());
        end.on("close", () => { this.ends.delete(end); other.destroy(); });
      }
    });
  }

  static async open(): Promise<Line> {
    const line = new Line();
    await new Promise<void>((resolve) => { line.server.listen(0, "127.0.0.1", resolve); });
    return line;
  }

  get address() { return "http://127.0.0.1:" + (this.server.address() as AddressInfo).port; }

  cut() {
    this.down = true;
    for (const end of this.ends) end.destroy();
  }

  mend() { this.down = false; }

  close() {
    this.cut();
    this.server.close();
  }
}
