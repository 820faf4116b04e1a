// Calls with sound and picture, through the TURN server and the SFU, from the ringing to the log.
import { expect } from "@playwright/test";
import { InCall } from "./call";
import { Liar } from "./liar";
import { acquaint, test } from "./pair";
import { Person } from "./person";
import { accounts, udp } from "./platform";

const joinedWithin = 1000; // milliseconds from a click to the first picture
const joins: number[] = []; // milliseconds, of all who joined here
const gapAtMost = 900; // milliseconds without a picture that nobody minds, at ten a second on a busy machine

test("two people call each other", async ({ browser, pair: [linh, mai] }) => {
  const { step } = test, [hers, his] = [linh.account.name, mai.account.name];
  const [caller, called] = [new InCall(linh), new InCall(mai)];
  await linh.open(his);
  await mai.open(hers);

  await step("it rings, aloud in one tab, and is answered", async () => {
    const tab = await mai.tab();
    await tab.open(hers);
    await tab.page.mouse.click(5, 5); // a page that nobody touched must not play
    await mai.page.mouse.click(5, 5);
    await caller.place("Call with camera");
    for (const { page } of [mai, tab]) await expect(page.getByRole("alertdialog")).toContainText(`${hers}is calling you with camera`);
    await expect(caller.stage).toContainText("Ringing…");
    const aloud = () => mai.page.evaluate(async () => (await navigator.locks.query()).held!.filter(({ name }) => name === "ring").length);
    await expect.poll(aloud).toBe(1);
    joins.push(await called.firstPicture(hers, () => called.answer("With camera")));
    await expect(tab.page.getByRole("alertdialog")).toBeHidden();
    await expect.poll(aloud).toBe(0);
    await expect(tab.page.getByText("You are in this call in another window.")).toBeVisible();
    await tab.page.close();
  });

  await step("both see and hear each other, encrypted and relayed", async () => {
    await caller.meets(called);
    await called.meets(caller);
    for (const person of [caller, called]) {
      await expect.poll(() => person.ways()).toEqual(Array(2).fill("relay udp SRTP_AEAD_AES_128_GCM"));
      expect(await person.sealed()).toBe(true);
      await expect(person.stage).toContainText("End-to-end encrypted");
    }
  });

  await step("microphone, camera and screen go off and on", async () => {
    const tile = called.tile(hers);
    await linh.page.keyboard.press("Alt+m");
    await expect(tile.getByRole("img", { name: "Microphone off" })).toBeVisible();
    await linh.press("Turn microphone on");
    await expect(tile.getByRole("img", { name: "Microphone off" })).toBeHidden();
    await called.hears();
    await linh.press("Turn camera off");
    await expect(tile.locator("video")).toHaveCount(0);
    await linh.press("Turn camera on");
    await called.sees(hers);
    await linh.press("Share screen");
    await called.sees("Screen of " + hers);
    await linh.press("Stop sharing the screen");
    await expect(called.tile("Screen of " + hers)).toHaveCount(0);
    await linh.press("Share screen");
    await called.sees("Screen of " + hers);
    await caller.endScreen();
    await expect(called.tile("Screen of " + hers)).toHaveCount(0);
    await expect(linh.page.getByRole("button", { name: "Share screen" })).toBeVisible();
    await called.sees(hers);
  });

  await step("they write to each other meanwhile", async () => {
    await linh.press("Make small");
    await linh.startGroup("Aside", [his]);
    await linh.say("Do you see me?");
    await mai.press("Make small");
    await mai.open("Aside");
    await mai.sees("Do you see me?");
    await called.sees(hers);
    await linh.open(his);
    await mai.open(hers);
    for (const person of [linh, mai]) await person.press("Show the call");
  });

  await step("no socket: the pictures go on, and what was said meanwhile counts when there is one", async () => {
    await called.measure(hers);
    await caller.measure(his);
    linh.line.cut();
    await linh.press("Turn microphone off");
    await expect(called.tile(hers)).toContainText("is coming back…");
    await expect(caller.stage).toContainText("The server does not answer.");
    linh.line.mend();
    await expect(caller.stage).not.toContainText("The server does not answer.");
    await expect(called.tile(hers).getByRole("img", { name: "Microphone off" })).toBeVisible();
    await expect(called.tile(hers)).not.toContainText("is coming back…");
    for (const person of [caller, called]) expect(await person.longestGap()).toBeLessThan(gapAtMost);
    await linh.press("Turn microphone on");
  });

  await step("no UDP: the call comes back over TCP", async () => {
    await called.measure(hers);
    await udp("cut");
    try {
      await expect.poll(async () => new Set(await called.ways())).toEqual(new Set(["relay tcp SRTP_AEAD_AES_128_GCM"]));
      await called.meets(caller);
      await caller.meets(called);
    } finally {
      await udp("mend");
    }
    const gap = await called.longestGap();
    console.log(`without UDP the pictures were back after ${gap} ms`);
    expect(gap).toBeLessThan(8000);
  });

  await step("one hangs up, and it is over for both", async () => {
    await called.hangUp();
    await caller.isOver();
    await expect(mai.page.locator(".mini, .stage")).toHaveCount(0);
    await linh.press("Calls");
    await expect(linh.dialog("Calls").getByRole("listitem").filter({ hasText: his }).first()).toContainText(/Video call · \d:\d\d/);
    await linh.close();
  });

  await step("a call that is declined says so", async () => {
    let lost = false; // the first request, as where the network changes
    await linh.page.route("**/v1/calls", (route) => {
      if (lost || route.request().method() !== "POST") return route.fallback();
      lost = true;
      return route.abort("failed");
    });
    await caller.place("Call");
    await called.decline();
    expect(lost).toBe(true);
    await linh.page.unroute("**/v1/calls");
    await expect(caller.ringing).toContainText(`${his} declined.`);
    await expect(called.ringing).toBeHidden();
    await caller.isOver();
  });

  await step("one that is cancelled is missed, counted until it is seen, and called back from the log", async () => {
    await caller.place("Call");
    await expect(called.ringing).toBeVisible();
    await caller.hangUp();
    await expect(called.ringing).toBeHidden();
    await mai.press("Calls, missed: 1");
    const missed = mai.dialog("Calls").getByRole("listitem").filter({ hasText: "Missed" });
    await expect(missed).toHaveCount(1);
    await missed.getByRole("button", { name: `Call: ${hers}` }).click();
    joins.push(await caller.firstPicture(his, async () => {
      await expect(caller.ringing).toBeVisible();
      await mai.press("Turn camera on");
      await caller.answer("Answer");
    }));
    await expect(mai.page.getByRole("button", { name: "Calls", exact: true })).toBeVisible();
    await called.hangUp();
    await caller.isOver();
  });

  await step("on another device it is answered, and taken over", async () => {
    const phone = new InCall(await Person.at(browser, "app-01", mai.account, { viewport: { width: 390, height: 844 } }));
    await phone.person.signIn();
    await phone.person.press("Confirm this device");
    await phone.person.dialog("Confirm this device").getByLabel("Recovery key").fill(mai.recoveryKey);
    await phone.person.press("Continue");
    await caller.place("Call with camera");
    await expect(called.ringing).toBeVisible();
    await phone.answer("With camera");
    await expect(called.ringing).toBeHidden();
    await caller.meets(phone);
    await phone.sees(hers);
    await mai.open(hers);
    await expect(mai.page.getByText("You are in this call on another device.")).toBeVisible();
    await called.person.press("With camera");
    await expect(phone.ringing).toContainText("You went on with this call on another device or in another window.");
    await caller.meets(called);
    await called.sees(hers);
    await called.hangUp();
    await caller.isOver();
    await phone.person.away();
  });
});

test("three people are in a call of a group", async ({ browser, pair: [linh, mai] }) => {
  const { step } = test, [hers, his] = [linh.account.name, mai.account.name];
  const quan = await Person.at(browser, "app-02", accounts[3]!), theirs = quan.account.name;
  const [first, second, third] = [new InCall(linh), new InCall(mai), new InCall(quan)];
  await quan.signIn();
  await quan.keepRecoveryKey();
  await acquaint(linh, quan);
  await linh.startGroup("Table", [his, theirs]);
  for (const person of [mai, quan]) await person.open("Table");

  await step("one comes after the other, and all see and hear all", async () => {
    await first.place("Call with camera");
    joins.push(await second.firstPicture(hers, () => second.answer("With camera")));
    await second.meets(first);
    joins.push(await third.firstPicture(hers, () => third.answer("With camera")));
    for (const [person, others] of [[first, [his, theirs]], [second, [hers, theirs]], [third, [hers, his]]] as const) {
      for (const other of others) await person.sees(other);
      await expect(person.stage).toContainText("3 in the call");
    }
  });

  await step("who is called meanwhile is busy", async () => {
    await third.hangUp();
    await quan.open(hers);
    await third.place("Call");
    await expect(third.ringing).toContainText(`${hers} is in another call.`);
    await third.isOver();
    await quan.open("Table");
    await quan.press("Join with camera");
    await first.sees(theirs);
  });

  await step("who leaves is gone for the others, and comes again by the banner", async () => {
    await second.hangUp();
    for (const person of [first, third]) await expect(person.tile(his)).toHaveCount(0);
    await first.sees(theirs);
    await expect(mai.page.locator(".call-banner")).toContainText(/A call is going on: /);
    joins.push(await second.firstPicture(hers, () => mai.press("Join with camera")));
    await first.sees(his);
    await third.sees(his);
  });

  await step("a server that says of one's picture that it is another's shows nobody", async () => {
    await first.hangUp();
    const liar = await Liar.inCallsOf(linh);
    for (const what of ["pictures", "people"] as const) {
      liar.exchangeInCalls(what);
      await linh.press("Join with camera");
      if (what === "pictures") await first.hears();
      if (what === "pictures") await expect.poll(() => liar.swaps).toBeGreaterThan(0);
      else for (const name of [his, theirs]) await expect(first.tile(name)).toContainText(`The key of ${name} has not come.`);
      for (const name of [his, theirs]) await first.seesNothing(name);
      await expect(first.stage.locator("figure video")).toHaveCount(1); // her own
      await first.hangUp();
    }
    liar.exchangeInCalls("nothing");
    await linh.press("Join with camera");
    for (const name of [his, theirs]) await first.sees(name);
  });

  await step("without a key nothing is decoded, and that is said; with it there is a picture", async () => {
    for (const person of [second, third]) await person.hangUp();
    const liar = await Liar.before(linh);
    liar.withhold();
    await mai.press("Join with camera");
    await second.sees(hers);
    await expect(first.tile(his)).toContainText(`The key of ${his} has not come.`);
    await expect.poll(() => first.growing("packetsReceived")).toBe(1);
    expect(await first.growing("framesDecoded")).toBe(0);
    await first.seesNothing(his);
    await liar.giveBack();
    await first.sees(his);
    await liar.away();
    await quan.press("Join with camera");
    await first.sees(theirs);
  });

  await step("a tab that is closed leaves, and one that follows moves the call to itself", async () => {
    await third.page.close();
    for (const person of [first, second]) await expect(person.tile(theirs)).toHaveCount(0);
    const tab = new InCall(await quan.tab());
    await tab.person.open("Table");
    await tab.person.press("Join with camera");
    await first.sees(theirs);
    const other = new InCall(await quan.tab());
    await other.person.open("Table");
    await expect(other.page.locator(".call-banner")).toContainText("You are in this call in another window.");
    await other.person.press("With camera");
    await expect(tab.ringing).toContainText("You went on with this call on another device or in another window.");
    await tab.isOver();
    await other.sees(hers);
    await first.sees(theirs);
    await tab.page.close();
    await other.hangUp();
  });

  await quan.away();
  await step("the tab that leads is closed: the call in the other goes on, and so do its keys", async () => {
    const tab = new InCall(await linh.tab());
    await first.hangUp();
    await tab.person.open("Table");
    await tab.person.press("Join with camera");
    await tab.sees(his);
    await linh.page.goto("about:blank");
    await second.hangUp();
    await second.person.press("Join with camera");
    await tab.sees(his);
    await second.sees(hers);
    await linh.page.goto("/");
    await linh.open("Table");
    await tab.hangUp();
    await second.hangUp();
    await tab.page.close();
  });

  console.log(`from the click to the first picture: ${joins.join(", ")} ms (at most ${joinedWithin})`);
  expect(Math.min(...joins)).toBeLessThanOrEqual(joinedWithin);
});

test("joining a call survives a socket that is cut at any stage of it", async ({ pair: [linh, mai] }) => {
  const { step } = test, [hers, his] = [linh.account.name, mai.account.name];
  const [first, second] = [new InCall(linh), new InCall(mai)];
  await linh.startGroup("Stages", [his]);
  await mai.open("Stages");
  await first.place("Call with camera");
  await second.decline();
  let cut: (frame: { type: string }, ours: boolean) => boolean = () => false;
  let tell: (frame: object) => void = () => {};
  await mai.page.routeWebSocket(/\/v1\/calls\//, (near) => {
    tell = (frame) => near.send(JSON.stringify(frame));
    const far = near.connectToServer();
    const pass = (ours: boolean, send: (message: string) => void) => (message: string | Buffer) => {
      const frame = JSON.parse(message as string);
      if (!cut(frame, ours)) return send(JSON.stringify(frame));
      cut = () => false;
      void far.close({ code: 3000 });
      void near.close({ code: 3000 });
    };
    near.onMessage(pass(true, (message) => far.send(message)));
    far.onMessage(pass(false, (message) => near.send(message)));
  });
  const stages: [string, string, boolean][] = [
    ["its token is said", "auth", true], ["it may join", "ready", false], ["it joins", "join", true], ["it has joined", "joined", false],
    ["it offers", "offer", true], ["its offer is answered", "answer", false], ["it is offered", "offer", false], ["it answers", "answer", true],
  ];
  for (const [what, type, from] of stages) {
    await step("cut as " + what, async () => {
      let done = false;
      cut = (frame, ours) => done ||= frame.type === type && ours === from;
      await mai.press("Join with camera");
      await second.sees(hers);
      await first.sees(his);
      expect(done).toBe(true);
      await second.hangUp();
      await expect(first.tile(his)).toHaveCount(0);
    });
  }
  await step("told that the call has moved, one joins it again", async () => {
    await mai.press("Join with camera");
    for (const [person, name] of [[first, his], [second, hers]] as const) await person.measure(name);
    tell({ type: "moved" });
    await expect.poll(() => second.longestGap()).toBeGreaterThan(200); // there was one
    await second.sees(hers);
    await first.sees(his);
    await second.hangUp();
  });

  await step("without UDP it is joined over TCP", async () => {
    await udp("cut");
    try {
      await mai.press("Join with camera");
      await second.sees(hers);
      await expect.poll(async () => new Set(await second.ways())).toEqual(new Set(["relay tcp SRTP_AEAD_AES_128_GCM"]));
    } finally {
      await udp("mend");
    }
    await second.hangUp();
  });

  await step("what the relay refuses is named", async () => {
    cut = (frame) => {
      if ("ice" in frame) for (const server of (frame.ice as { servers: { credential: string }[] }).servers) server.credential = "not this one";
      return false;
    };
    await mai.press("Join with camera");
    await expect(second.stage).toContainText("refuses the credentials the server gave");
    await second.hangUp();
    cut = () => false;
  });
  await first.hangUp();
});

test("one tests the connection without anybody", async ({ pair: [linh] }) => {
  const step = (name: string) => linh.page.locator(`#trial [data-step="${name}"]`);
  await linh.press("Settings");
  await linh.dialog("Settings").getByText("Calls", { exact: true }).click();
  await linh.press("Test my connection");
  for (const name of ["server", "udp", "tcp", "tls", "media", "line"]) await expect(step(name)).toHaveAttribute("data-state", /^(good|poor)$/);
  await expect(step("line")).toContainText(/Round trip \d+ ms, loss [\d.]+%, over UDP/);
  await udp("cut");
  try {
    await linh.press("Test my connection");
    await expect(step("udp")).toHaveAttribute("data-state", "failed");
    await expect(step("udp")).toContainText("lets no UDP through");
    for (const name of ["server", "tcp", "tls", "media"]) await expect(step(name)).toHaveAttribute("data-state", "good");
    await expect(step("line")).toContainText("over TCP");
  } finally {
    await udp("mend");
  }
  await linh.close();
});
