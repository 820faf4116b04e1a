// A server that lies to a browser, and one that dies.
import { expect } from "@playwright/test";
import { Liar } from "./liar";
import { test } from "./pair";
import { appHost } from "./platform";

test("a server that lies is not believed", async ({ pair: [linh, mai] }) => {
  const { step } = test, { page } = linh;
  const [her, him] = [await linh.device(), await mai.device()];
  const warning = page.getByRole("alert").filter({ hasText: "has a new security identity" });
  await linh.startGroup("Truth", [mai.account.name]);
  await mai.open("Truth");
  const liar = await Liar.before(linh);

  await step("a device that its owner has not signed gets no key, and nobody is asked about it", async () => {
    liar.haunt(her.user, him.user);
    for (const { user } of [her, him]) await liar.tell(user);
    await linh.say("between us");
    await mai.sees("between us");
    expect([...liar.keysSentTo]).toEqual([him.id]);
    await expect(page.getByRole("dialog")).toHaveCount(0);
    await expect(page.getByRole("alert")).toHaveCount(0);
  });

  await step("another identity is shown, and nothing is sent for as long as it is", async () => {
    liar.keysSentTo.clear();
    liar.swap(him.user);
    await liar.tell(him.user);
    await expect(warning).toBeVisible();
    await linh.say("is it you?");
    await expect(linh.message("is it you?")).toContainText("Held back");
    expect([...liar.keysSentTo]).toEqual([]);
    liar.repent();
    await liar.tell(him.user);
    await expect(warning).toBeHidden();
    await mai.sees("is it you?");
    expect([...liar.keysSentTo]).not.toContain(liar.ghost);
  });

  await step("a message that was shown before is not shown as another one", async () => {
    await linh.startGroup("Elsewhere", [mai.account.name]);
    await linh.open("Truth");
    const bodies = new Map<string, string>();
    for (const socket of mai.sockets) socket.on("framesent", ({ payload }) => { const { client_id, body } = JSON.parse(payload as string); bodies.set(client_id, body); });
    const lies = new Map<string, object>();
    const lie = async (words: string, about: object) => {
      await mai.say(words);
      await mai.shows(words, "Sent");
      lies.set(await mai.idOf(words), about);
    };
    await mai.say("once");
    await linh.sees("once");
    const client_id = await mai.idOf("once");
    await expect.poll(() => bodies.has(client_id)).toBe(true);
    const body = bodies.get(client_id)!;
    await liar.rewrite(lies);
    linh.line.cut();
    await lie("under another name", { body });
    await lie("at another place", { client_id, body });
    await lie("by another sender", { sender: her.user.slice(1, 37) });
    await mai.open("Elsewhere");
    await lie("in another conversation", { client_id, body });
    linh.line.mend();
    const again = "Hidden: a message that was shown before, under another name";
    await expect.poll(() => linh.said()).toEqual(["between us", "is it you?", "once", again, again, "Hidden: it came from a device its sender has not confirmed"]);
    await linh.open("Elsewhere");
    await expect.poll(() => linh.said()).toEqual(["Waiting for the key to this message"]);
  });

  await liar.away();
});

test("a conversation outlives an app host", async ({ pair: [linh, mai] }) => {
  const { step } = test;
  await linh.startGroup("Storm", [mai.account.name]);
  await mai.open("Storm");
  await linh.isServedBy("app-01");
  await linh.say("before");
  await mai.sees("before");

  await step("it goes on over the other one", async () => {
    await appHost("kill");
    await linh.say("one");
    await mai.say("two");
    await linh.shows("one", "Read");
    await mai.shows("two", "Read");
    await linh.isServedBy("app-02");
  }).finally(() => appHost("start"));

  await step("nothing is missing when it is back", async () => {
    await expect.poll(() => linh.page.evaluate(async () => (await fetch("/", { cache: "no-store" })).headers.get("X-Served-By")), { timeout: 60_000 }).toBe("app-01");
    await linh.page.reload();
    await linh.isServedBy("app-01");
    await linh.say("three");
    await mai.sees("three");
    const all = await mai.said();
    expect(all.toSorted()).toEqual(["before", "one", "three", "two"]);
    await expect.poll(() => linh.said()).toEqual(all);
  });
});
