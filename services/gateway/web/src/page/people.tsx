// People: finding, asking, accepting, blocking; making groups and changing them.
import { useEffect, useState } from "preact/hooks";
import type { Chat, Id, Person } from "../protocol";
import { core, state } from "./core";
import { nameOf, others, titleOf } from "./format";
import { dialog, openChat } from "./route";
import { text } from "./texts";
import { Action, attempt, Avatar, Dialog, PersonAvatar, say } from "./ui";

const close = () => { dialog.value = null; };

function ofRelation(...relations: Person["relation"][]): Person[] {
  const people = state.contacts.value.map((id) => state.people.value[id]).filter((person) => person !== undefined);
  return people.filter(({ relation }) => relations.includes(relation)).sort((a, b) => a.name.localeCompare(b.name));
}

const message = async (user: Id) => openChat(await core("openDirect", { user }));

export function PeopleDialog() {
  const [query, setQuery] = useState("");
  const [found, setFound] = useState<Person[] | null>(null);
  const wanted = query.trim().toLowerCase();
  useEffect(() => {
    setFound(null);
    if (wanted.length < 2) return;
    let current = true;
    const timer = setTimeout(() => void attempt(async () => {
      const people = await core("findPeople", { text: wanted });
      if (current) setFound(people);
    }), 250);
    return () => { current = false; clearTimeout(timer); };
  }, [wanted]);
  const known = (person: Person) => state.people.value[person.id] && state.contacts.value.includes(person.id) ? state.people.value[person.id]! : person;
  return (
    <Dialog title={text("people")} onClose={close}>
      <label for="find-people">{text("findPeople")}</label>
      <input id="find-people" autofocus type="search" value={query} placeholder={text("findPeopleHint")} autocomplete="off" autocapitalize="none" spellcheck={false} maxLength={64} onInput={(event) => setQuery(event.currentTarget.value)} />
      {wanted.length >= 2
        ? <Section title={text("results")} people={(found ?? []).map(known)} empty={found ? text("nobodyFound") : text("searching")} />
        : (
          <>
            <Section title={text("requests")} people={ofRelation("incoming")} />
            <Section title={text("contacts")} people={ofRelation("contact")} empty={text("noContacts")} />
            <Section title={text("asked")} people={ofRelation("outgoing")} />
            <Section title={text("blockedPeople")} people={ofRelation("blocked")} />
          </>
        )}
    </Dialog>
  );
}

function Section({ title, people, empty }: { title: string; people: Person[]; empty?: string }) {
  if (people.length === 0 && !empty) return null;
  return (
    <section>
      <h3>{title}</h3>
      {people.length === 0 && <p class="hint">{empty}</p>}
      <ul class="people">{people.map((person) => <PersonRow key={person.id} person={person} />)}</ul>
    </section>
  );
}

function PersonRow({ person }: { person: Person }) {
  const { id: user, relation } = person;
  return (
    <li>
      <Avatar id={user} name={person.name} />
      <span class="who"><b>{person.name}</b><small>@{person.username}</small></span>
      <span class="buttons">
        {relation === "contact" && <Action run={() => message(user)}>{text("message")}</Action>}
        {relation === "incoming" && <><Action run={() => core("accept", { user })}>{text("accept")}</Action><Action kind="quiet" run={() => core("reject", { user })}>{text("reject")}</Action></>}
        {relation === "outgoing" && <Action kind="quiet" run={() => core("forget", { user })}>{text("cancelRequest")}</Action>}
        {relation === "none" && <Action run={() => core("request", { user })}>{text("addContact")}</Action>}
        {relation === "blocked" && <Action kind="quiet" run={() => core("block", { user, on: false })}>{text("unblock")}</Action>}
      </span>
    </li>
  );
}

export function GroupDialog() {
  const [chosen, setChosen] = useState<Id[]>([]);
  const [name, setName] = useState("");
  const create = async () => openChat(await core("createGroup", { name: name.trim(), users: chosen }));
  return (
    <Dialog title={text("newGroup")} onClose={close}>
      <label for="group-name">{text("groupName")}</label>
      <input id="group-name" autofocus value={name} maxLength={64} autocomplete="off" onInput={(event) => setName(event.currentTarget.value)} />
      <Choose chosen={chosen} onChange={setChosen} except={[]} />
      <div class="foot"><Action id="create-group" disabled={!name.trim() || chosen.length === 0} run={create}>{text("createGroup")}</Action></div>
    </Dialog>
  );
}

function Choose({ chosen, onChange, except }: { chosen: Id[]; onChange: (chosen: Id[]) => void; except: Id[] }) {
  const people = ofRelation("contact").filter(({ id }) => !except.includes(id));
  return (
    <fieldset>
      <legend>{text("contacts")}</legend>
      {people.length === 0 && <p class="hint">{text("noContacts")}</p>}
      <ul class="people">
        {people.map(({ id, name, username }) => (
          <li key={id}>
            <label class="choice">
              <input type="checkbox" checked={chosen.includes(id)} onChange={(event) => onChange(event.currentTarget.checked ? [...chosen, id] : chosen.filter((other) => other !== id))} />
              <PersonAvatar id={id} /><span class="who"><b>{name}</b><small>@{username}</small></span>
            </label>
          </li>
        ))}
      </ul>
    </fieldset>
  );
}

export function InfoDialog({ chat }: { chat: Chat }) {
  return <Dialog title={titleOf(chat)} onClose={close}>{chat.kind === "group" ? <GroupInfo chat={chat} /> : <DirectInfo chat={chat} />}</Dialog>;
}

function DirectInfo({ chat }: { chat: Chat }) {
  const [other] = others(chat);
  if (!other) return null;
  const person = state.people.value[other.id];
  return (
    <>
      <p class="profile"><PersonAvatar id={other.id} /><span class="who"><b>{nameOf(other.id)}</b>{person && <small>@{person.username}</small>}</span></p>
      <Identity user={other.id} verified={chat.verified} />
      <div class="foot">
        {person?.relation === "contact" && <Action kind="quiet" run={() => core("forget", { user: other.id })}>{text("removeContact")}</Action>}
        {person?.relation === "blocked"
          ? <Action kind="quiet" run={() => core("block", { user: other.id, on: false })}>{text("unblock")}</Action>
          : <Action kind="quiet danger" run={() => core("block", { user: other.id, on: true })}>{text("block")}</Action>}
      </div>
    </>
  );
}

function Identity({ user, verified }: { user: Id; verified: boolean }) {
  return (
    <section>
      <h3>{text("encryption")}</h3>
      <p>{text(verified ? "identityVerified" : "identityUnverified").replace("{who}", nameOf(user))}</p>
      {!verified && <Action id="verify-user" run={async () => { await core("verifyUser", { user }); close(); }}>{text("verify")}</Action>}
      <Fingerprints user={user} verified={verified} />
    </section>
  );
}

function Fingerprints({ user, verified }: { user: Id; verified: boolean }) {
  const [{ ours, theirs }, setShown] = useState({ ours: "", theirs: "" });
  useEffect(() => { void attempt(async () => setShown(await core("fingerprints", { user }))); }, [user, verified]);
  return (
    <details>
      <summary>{text("compareFingerprints")}</summary>
      <p class="hint">{text("fingerprintsHint")}</p>
      <dl>
        <dt>{text("fingerprintTheirs").replace("{who}", nameOf(user))}</dt><dd id="fingerprint-theirs" class="key" translate={false}>{grouped(theirs)}</dd>
        <dt>{text("fingerprintOurs")}</dt><dd id="fingerprint-ours" class="key" translate={false}>{grouped(ours)}</dd>
      </dl>
      {!verified && theirs && <Action id="confirm-fingerprint" run={() => core("confirmFingerprint", { user, fingerprint: theirs })}>{text("fingerprintsMatch")}</Action>}
    </details>
  );
}

const grouped = (fingerprint: string) => fingerprint.replace(/(.{4})(?=.)/g, "$1 ");

function GroupInfo({ chat }: { chat: Chat }) {
  const me = chat.members.find(({ id }) => id === state.me.value?.id);
  const manages = me?.role === "owner" || me?.role === "admin";
  const [name, setName] = useState(chat.name);
  const [adding, setAdding] = useState<Id[] | null>(null);
  const rename = async () => {
    await core("renameGroup", { chat: chat.id, name: name.trim() });
    say(text("saved"));
  };
  const add = async () => {
    await core("addMembers", { chat: chat.id, users: adding! });
    setAdding(null);
  };
  if (adding) {
    return (
      <>
        <Choose chosen={adding} onChange={setAdding} except={chat.members.map(({ id }) => id)} />
        <div class="foot"><button type="button" class="quiet" onClick={() => setAdding(null)}>{text("cancel")}</button><Action disabled={adding.length === 0} run={add} id="add-members">{text("addMembers")}</Action></div>
      </>
    );
  }
  return (
    <>
      {manages && chat.joined && (
        <>
          <label for="group-rename">{text("groupName")}</label>
          <div class="inline"><input id="group-rename" value={name} maxLength={64} onInput={(event) => setName(event.currentTarget.value)} /><Action kind="quiet" disabled={!name.trim() || name.trim() === chat.name} run={rename}>{text("save")}</Action></div>
        </>
      )}
      <h3>{text("memberCount").replace("{count}", String(chat.members.length))}</h3>
      <ul class="people">
        {chat.members.map(({ id, role }) => (
          <li key={id}>
            <PersonAvatar id={id} />
            <span class="who"><b>{nameOf(id)}</b><small>{text("role." + role)}</small></span>
            {manages && id !== me?.id && role !== "owner" && <Action kind="quiet" run={() => core("removeMember", { chat: chat.id, user: id })}>{text("remove")}</Action>}
          </li>
        ))}
      </ul>
      {chat.joined && (
        <div class="foot">
          {manages && <button type="button" class="quiet" id="add-people" onClick={() => setAdding([])}>{text("addMembers")}</button>}
          <Action kind="quiet danger" id="leave-group" run={async () => { await core("leave", { chat: chat.id }); close(); }}>{text("leaveGroup")}</Action>
        </div>
      )}
    </>
  );
}
