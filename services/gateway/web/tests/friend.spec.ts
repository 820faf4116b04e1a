// A friend whose program is not a browser: the Go library, on two devices (services/e2e/friend_test.go). It answers backwards, does to
// its answers what is done to what it answered, takes calls, and its second device puts an eye on all it reads.
import { expect } from "@playwright/test";
import { InCall } from "./call";
import { test } from "./pair";
import { friend } from "./platform";

const backwards = (words: string) => [...words].reverse().join("");

test("a browser and a program understand each other", async ({ pair: [linh] }) => {
  const { step } = test, { page } = linh;
  const mine = (words: string) => page.locator("li.message.mine", { hasText: words }).last();
  const reactions = (message: ReturnType<typeof mine>) => message.getByRole("list", { name: "Reactions" });

  await step("they become contacts", async () => {
    await linh.press("People, requests: 1");
    await linh.press("Accept");
    await linh.dialog("People").getByRole("listitem").filter({ hasText: friend }).getByRole("button", { name: "Message" }).click();
    await linh.isAt(friend);
  });

  await step("what one says the other reads, on both devices", async () => {
    await linh.say("Xin chào");
    await expect(linh.message(backwards("Xin chào")).getByRole("button", { name: "Xin chào" })).toBeVisible();
    await expect(reactions(mine("Xin chào"))).toContainText("👀");
    await linh.choose(backwards("Xin chào"), "Reply");
    await linh.say("Sao?");
    await linh.sees(`${backwards("Sao?")}, as I said: ${backwards("Xin chào")}`);
    await expect(reactions(mine("Sao?"))).toContainText("👀");
  });

  await step("they verify each other by their fingerprints", async () => {
    await linh.press("Details");
    await linh.dialog(friend).getByText("Compare fingerprints").click();
    const shown = async (whose: string) => (await page.locator("#fingerprint-" + whose).innerText()).replaceAll(" ", "");
    await expect.poll(() => shown("theirs")).toMatch(/^[A-Za-z0-9+/]{43}$/);
    const theirs = await shown("theirs"), ours = await shown("ours");
    await linh.close();
    await linh.say("My fingerprint: " + ours);
    await linh.sees("Mine: " + theirs);
    await linh.press("Details");
    await linh.dialog(friend).getByText("Compare fingerprints").click();
    await linh.press("The fingerprints match");
    await expect(linh.dialog(friend)).toContainText("You have verified " + friend);
    await linh.close();
    await expect(page.locator(".head").getByRole("img", { name: "Verified" })).toBeVisible();
  });

  await step("they edit, react and delete", async () => {
    await linh.say("Tạm biệt");
    await linh.sees(backwards("Tạm biệt"));
    await linh.choose(mine("Tạm biệt"), "Edit");
    await linh.say("Hẹn gặp lại");
    const answer = linh.message(backwards("Hẹn gặp lại"));
    await expect(answer).toContainText("edited");
    await linh.choose(answer, "👍");
    await expect(reactions(answer)).toContainText("👍2");
    await reactions(answer).getByRole("button").click();
    await expect(reactions(answer)).toBeHidden();
    await linh.choose(mine("Hẹn gặp lại"), "Delete for everybody");
    await expect.poll(async () => (await linh.said()).slice(-2)).toEqual(["Message deleted", "Message deleted"]);
  });

  await step("they share groups, whoever made them", async () => {
    await linh.startGroup("Của Linh", [friend]);
    await linh.say("Mời vào");
    await linh.sees(backwards("Mời vào"));
    await linh.say("Please make a group: Của bạn");
    await linh.open("Của bạn");
    await linh.sees("Welcome to Của bạn");
    await linh.say("Cảm ơn");
    await linh.sees(backwards("Cảm ơn"));
    await expect(reactions(mine("Cảm ơn"))).toContainText("👀");
  });

  await step("they call each other, and each sees and hears the other", async () => {
    await linh.open(friend);
    const call = new InCall(linh);
    const bothWays = async () => {
      await call.sees(friend);
      await call.hears();
      await linh.press("Make small");
      await expect(async () => {
        await linh.say("What comes?");
        await expect(linh.message("pictures: ")).toContainText(/pictures: [1-9]\d+, sounds: [1-9]\d+/, { timeout: 2000 });
      }).toPass();
      await linh.press("Show the call");
      await call.hangUp();
      await call.isOver();
    };
    await call.place("Call with camera");
    await bothWays();
    await linh.say("Please call me");
    await expect(call.ringing).toContainText(friend + "is calling you with camera");
    await call.answer("With camera");
    await bothWays();
  });
});
