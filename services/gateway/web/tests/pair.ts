// Two people who know each other, one on each app host. They sign in once: every test takes them to a place of its own.
import { expect, test as base } from "@playwright/test";
import { Person } from "./person";
import { accounts } from "./platform";

const [first, second] = accounts as [Person["account"], Person["account"]];

export async function acquaint(linh: Person, mai: Person) {
  await linh.press(/^People/);
  await linh.page.getByLabel("Find people").fill(mai.account.name);
  await linh.press("Add contact");
  await mai.press("People, requests: 1");
  await mai.press("Accept");
  await expect(mai.page.getByRole("button", { name: "Message", exact: true })).toBeVisible();
  await mai.close();
  await linh.press("Message");
  await linh.isAt(mai.account.name);
}

export const test = base.extend<object, { pair: [Person, Person] }>({
  pair: [async ({ browser }, use) => {
    const linh = await Person.at(browser, "app-01", first, { permissions: ["notifications"] });
    const mai = await Person.at(browser, "app-02", second);
    await Promise.all([linh, mai].map(async (person) => {
      await person.signIn();
      await person.keepRecoveryKey();
    }));
    await linh.isServedBy("app-01");
    await mai.isServedBy("app-02");
    await acquaint(linh, mai);
    await use([linh, mai]);
    await linh.away();
    await mai.away();
  }, { scope: "worker" }],
});
