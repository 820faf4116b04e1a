// What a person has open in one browser: two tabs that are one device, and what nobody looks at.
import { expect } from "@playwright/test";
import { InCall } from "./call";
import { test } from "./pair";
import type { Person } from "./person";

test("two tabs are one device", async ({ pair: [linh, mai] }) => {
  const { step } = test;
  const said = ["from one", "from the other", "to both"];
  const tab = await linh.tab();
  const allShow = async (...people: Person[]) => { for (const person of people) await expect.poll(() => person.said()).toEqual(said); };

  await step("both show what anybody says, and one of them has the socket", async () => {
    await linh.startGroup("Tabs", [mai.account.name]);
    for (const person of [tab, mai]) await person.open("Tabs");
    for (const [i, person] of [linh, tab, mai].entries()) {
      await person.say(said[i]!);
      for (const reader of [linh, tab, mai]) await reader.sees(said[i]!);
    }
    expect([linh.sockets.size, tab.sockets.size]).toEqual([1, 0]);
  });

  await step("the leader is loaded anew: the other leads", async () => {
    await linh.page.reload();
    await linh.isAt("Tabs");
    await linh.say("from who follows now");
    said.push("from who follows now");
    await allShow(linh, tab, mai);
    expect([linh.sockets.size, tab.sockets.size]).toEqual([0, 1]);
  });

  await step("what is asked again of the next leader is said once", async () => {
    await linh.page.evaluate(() => {
      const channel = new BroadcastChannel("core"); // between the tabs
      channel.onmessage = ({ data }) => { if (data.method === "send") { channel.close(); new BroadcastChannel("core").postMessage(data); } };
    });
    await linh.say("asked twice");
    await linh.say("asked once");
    said.push("asked twice", "asked once");
    await allShow(linh, tab, mai);
  });

  await step("the leader is closed without a connection: the other leads, and nothing is lost or doubled", async () => {
    linh.line.cut();
    await expect(linh.page.getByText(/^(No connection|Connecting)/).first()).toBeVisible();
    await tab.say("written by the leader");
    await linh.say("written by the other");
    for (const words of ["written by the leader", "written by the other"]) await linh.shows(words, "Waiting to be sent");
    await tab.page.close();
    await mai.say("meanwhile");
    await mai.shows("meanwhile", "Sent");
    await linh.open(mai.account.name);
    await linh.open("Tabs");
    said.push("written by the leader", "written by the other");
    await allShow(linh);
    linh.line.mend();
    said.splice(-2, 0, "meanwhile");
    await allShow(linh, mai);
    await mai.shows("meanwhile", "Read");
    expect(linh.sockets.size).toBe(1);
  });
});

test("a message that nobody looks at is announced", async ({ pair: [linh, mai] }) => {
  const { step } = test;
  const title = `${mai.account.name} · News`;
  const unread = linh.row("News").getByLabel("unread");
  await linh.startGroup("News", [mai.account.name]);
  await mai.open("News");
  const focus = await linh.context.newCDPSession(linh.page);
  await focus.send("Emulation.setFocusEmulationEnabled", { enabled: false }); // a page in front of it takes the focus, as it does for people
  const elsewhere = await linh.context.newPage();
  await linh.page.evaluate(listen);
  const announced = () => linh.page.evaluate(() => announcedHere);
  const looksAway = async () => {
    await elsewhere.bringToFront();
    await expect.poll(() => linh.page.evaluate(() => document.hasFocus())).toBe(false);
  };
  const expected: { title: string; body: string }[] = [];

  await step("what is read as it comes is not", async () => {
    await linh.page.bringToFront();
    await mai.say("seen at once");
    await mai.shows("seen at once", "Read");
    expect(await announced()).toEqual(expected);
    await expect(linh.page).toHaveTitle("News · SecureConnect");
  });

  await step("looking elsewhere, a person hears of it, and it is counted", async () => {
    await looksAway();
    for (const [i, words] of ["Psst", "Hello?"].entries()) {
      await mai.say(words);
      expected.push({ title, body: words });
      await expect.poll(announced).toEqual(expected);
      await expect(linh.page).toHaveTitle(`(${i + 1}) News · SecureConnect`);
      await expect(unread).toHaveText(String(i + 1));
    }
    await mai.shows("Hello?", "Delivered");
    await linh.page.bringToFront();
    await mai.shows("Hello?", "Read");
    await expect(linh.page).toHaveTitle("News · SecureConnect");
    await expect(unread).toBeHidden();
  });

  await step("in another conversation as well", async () => {
    await linh.open(mai.account.name);
    await mai.say("over here");
    expected.push({ title, body: "over here" });
    await expect.poll(announced).toEqual(expected);
    await expect(unread).toHaveText("1");
    await linh.open("News");
    await expect(unread).toBeHidden();
  });

  await step("what another tab shows is not, until that tab is gone", async () => {
    const tab = await linh.tab();
    await tab.open("News");
    await looksAway();
    await mai.say("read in a tab");
    await mai.shows("read in a tab", "Read");
    void (await linh.context.newCDPSession(tab.page)).send("Page.crash").catch(() => {}); // it has no time to say so
    await tab.page.waitForEvent("crash");
    await mai.say("nobody there");
    expected.push({ title, body: "nobody there" });
    await expect.poll(announced).toEqual(expected);
    await tab.page.close();
    await linh.page.bringToFront();
  });

  await step("without its words, if that was chosen", async () => {
    const choose = async (what: string) => {
      await linh.press("Settings");
      await linh.dialog("Settings").getByLabel("Notifications show").selectOption(what);
      await linh.close();
    };
    await choose("Only who wrote");
    await looksAway();
    await mai.say("a secret");
    expected.push({ title, body: "New message" });
    await expect.poll(announced).toEqual(expected);
    const call = new InCall(mai);
    await call.place("Call");
    expected.push({ title, body: "Incoming call" });
    await expect.poll(announced).toEqual(expected);
    await call.hangUp();
    await linh.page.bringToFront();
    await linh.press("Calls, missed: 1");
    await linh.close();
    await choose("Who wrote, and what");
  });

  await focus.send("Emulation.setFocusEmulationEnabled", { enabled: true });
  await elsewhere.close();
});

declare let announcedHere: { title: string; body: string }[];

// Notes what the page has the system show.
function listen() {
  announcedHere = [];
  window.Notification = class extends Notification {
    constructor(title: string, options?: NotificationOptions) {
      super(title, options);
      announcedHere.push({ title, body: options?.body ?? "" });
    }
  };
}
