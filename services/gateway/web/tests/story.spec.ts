// Two people, one on each app host, from the first word to a friend whose identity is not the one they knew. It is the last
// by name: they do not find back to each other.
import { expect } from "@playwright/test";
import { test } from "./pair";
import { compare, Person } from "./person";
import { gate } from "./platform";

test("two people talk across two app hosts", async ({ browser, pair: [linh, mai] }) => {
  const { step } = test, { account: first } = linh, { account: second } = mai;

  await linh.open(second.name);

  await step("they verify each other by emoji", async () => {
    await mai.open(first.name);
    await linh.press("Details");
    await linh.press("Compare emoji");
    await compare(linh, mai);
    for (const { page } of [linh, mai]) await expect(page.locator(".head").getByRole("img", { name: "Verified" })).toBeVisible();
  });

  await step("what one says the other reads", async () => {
    await linh.say("Chào Mai");
    await mai.sees("Chào Mai");
    await mai.say("Chào Linh");
    await linh.sees("Chào Linh");
    await expect(linh.message("Chào Mai").getByRole("img", { name: "Read" })).toBeVisible();
  });

  await step("one is away and comes back: nothing is missing, and both see one order", async () => {
    mai.line.cut();
    await expect(mai.page.getByText("No connection").or(mai.page.getByText("Connecting")).first()).toBeVisible();
    const meanwhile = ["one", "two", "three"];
    for (const words of meanwhile) {
      await linh.say(words);
      await expect(linh.message(words).getByRole("img", { name: "Sent" })).toBeVisible();
    }
    await mai.say("written on the way");
    await expect(mai.message("written on the way").getByRole("img", { name: "Waiting to be sent" })).toBeVisible();
    mai.line.mend();
    const all = ["Chào Mai", "Chào Linh", ...meanwhile, "written on the way"];
    for (const person of [linh, mai]) await expect.poll(() => person.said()).toEqual(all);
    await expect(mai.message("written on the way").getByRole("img", { name: "Read" })).toBeVisible();
  });

  await step("they edit, react, reply and delete", async () => {
    await linh.rewrite("three", "four");
    await expect(mai.message("four")).toContainText("edited");
    await mai.choose("four", "👍");
    await expect(linh.message("four").getByRole("list", { name: "Reactions" })).toContainText("👍");
    await mai.choose("two", "Reply");
    await mai.say("an answer");
    await expect(linh.message("an answer").getByRole("button", { name: "two" })).toBeVisible();
    await linh.choose("one", "Delete for everybody");
    for (const person of [linh, mai]) {
      await person.sees("Message deleted");
      await expect.poll(() => person.said()).toEqual(["Chào Mai", "Chào Linh", "Message deleted", "two", "four", "written on the way", "an answer"]);
    }
  });

  await step("everything is reached without a mouse", async () => {
    const { page } = linh, { keyboard } = page;
    const focused = (name: string) => expect(page.getByRole("button", { name, exact: true }).and(page.locator(":focus"))).toBeVisible();
    await page.getByRole("region", { name: "Messages" }).focus();
    await keyboard.press("ArrowUp");
    await expect(linh.message("an answer")).toBeFocused();
    await keyboard.press("ArrowUp");
    await expect(linh.message("written on the way")).toBeFocused();
    await keyboard.press("ArrowDown");
    for (const button of ["two", "Reply", "React, and more"]) {
      await keyboard.press("Tab");
      if (button !== "two") await focused(button);
    }
    await keyboard.press("Enter");
    await keyboard.press("Tab");
    await focused("👍");
    await keyboard.press("Enter");
    await focused("React, and more");
    await expect(mai.message("an answer").getByRole("list", { name: "Reactions" })).toContainText("👍");
    await page.getByRole("button", { name: "Settings" }).press("Enter");
    await expect(linh.dialog("Settings")).toBeVisible();
    await keyboard.press("Escape");
    await expect(linh.dialog("Settings")).toBeHidden();
    await focused("Settings");
  });

  await step("one joins a group and leaves it", async () => {
    await mai.press("New group");
    await mai.page.getByLabel("Name of the group").fill("Phở");
    await mai.dialog("New group").getByRole("checkbox", { name: first.name }).check();
    await mai.press("Create group");
    await mai.isAt("Phở");
    await mai.say("Welcome");
    await linh.open("Phở");
    await linh.sees("Welcome");
    await linh.say("Thanks");
    await mai.sees("Thanks");
    await linh.press("Details");
    await linh.press("Leave group");
    await expect(linh.page.getByText("You are no longer in this conversation.")).toBeVisible();
    await expect(mai.page.getByRole("log").getByText(first.name + " left")).toBeVisible();
    await mai.say("Alone");
    await expect(mai.message("Alone").getByRole("img", { name: "Sent" })).toBeVisible();
    expect(await linh.said()).toEqual(["Welcome", "Thanks"]);
  });

  await step("a reload brings everything back", async () => {
    await linh.page.reload();
    await linh.open(second.name);
    await expect.poll(() => linh.said()).toContain("an answer");
    const kept = await linh.page.evaluate(() => document.cookie + JSON.stringify(localStorage) + JSON.stringify(sessionStorage));
    expect(kept).toBe("{}{}");
  });

  await step("a second device reads old messages with the recovery key", async () => {
    const phone = await Person.at(browser, "app-02", first, { viewport: { width: 390, height: 844 } });
    await step("what comes later does not move a button from under the finger", async () => {
      const list = /\/v1\/conversations$/, listed = gate();
      await phone.context.route(list, async (route) => {
        await listed.opened;
        await route.continue();
      });
      await phone.signIn();
      const confirm = phone.page.getByRole("button", { name: "Confirm this device" });
      await confirm.waitFor();
      const place = await confirm.boundingBox();
      listed.open();
      await expect(phone.row(second.name)).toBeVisible();
      expect(await confirm.boundingBox()).toEqual(place);
      await phone.context.unroute(list);
    });
    await phone.press("Confirm this device");
    await phone.dialog("Confirm this device").getByLabel("Recovery key").fill(linh.recoveryKey);
    await phone.press("Continue");
    await expect(phone.dialog("Confirm this device")).toBeHidden();
    await phone.open(second.name);
    await expect.poll(() => phone.said()).toEqual(["Chào Mai", "Chào Linh", "Message deleted", "two", "four", "written on the way", "an answer"]);
    await mai.open(first.name);
    await mai.say("To both devices");
    for (const device of [linh, phone]) await device.sees("To both devices");
    await step("signing out in one tab signs out both and leaves nothing readable; signing in again is as quick", async () => {
      const tab = await phone.tab();
      await tab.press("Settings");
      await tab.page.locator("#logout").click(); // a list of devices that can be signed out comes below it
      for (const { page } of [phone, tab]) await expect(page.getByRole("region", { name: "Sign in" })).toBeVisible();
      const kept = () => tab.page.evaluate(async () => (await indexedDB.databases()).map(({ name }) => name!));
      await expect.poll(async () => (await kept()).filter((name) => !name.startsWith("secureconnect-keys-"))).toEqual([]); // with the key to all the rest
      await tab.enter();
      for (const { page } of [tab, phone]) await expect(page.getByRole("button", { name: "Confirm this device" })).toBeVisible({ timeout: 10_000 });
      await tab.press("Settings");
      await tab.page.locator("#logout").click();
      await tab.dialog("Settings").getByRole("alert").getByRole("button", { name: "Sign out" }).click();
      await expect(phone.page.getByRole("region", { name: "Sign in" })).toBeVisible();
      await phone.page.reload();
      await expect(phone.page.getByRole("region", { name: "Sign in" })).toBeVisible();
    });
    await phone.away();
  });

  await step("a friend whose identity is not the one they knew is shown, and is written to only after a decision", async () => {
    const stranger = await Person.at(browser, "app-01", second);
    await stranger.signIn();
    await stranger.press("Confirm this device");
    await stranger.press("I have neither");
    await stranger.dialog("Start over").getByLabel("Password").fill(second.password);
    await stranger.dialog("Start over").getByRole("button", { name: "Start over" }).click();
    await stranger.keepRecoveryKey();
    const warning = linh.page.getByRole("alert").filter({ hasText: "has a new security identity" });
    await expect(warning).toBeVisible();
    await linh.say("Is it you?");
    await expect(linh.message("Is it you?")).toContainText("Held back");
    await warning.getByRole("button", { name: "Accept it" }).click();
    await expect(warning).toBeHidden();
    await stranger.open(first.name);
    await stranger.sees("Is it you?");
    await expect(linh.message("Is it you?").getByRole("img", { name: "Read" })).toBeVisible();
    await stranger.away();
  });
});
