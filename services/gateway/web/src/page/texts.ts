// Every sentence a person reads. A code the platform answers with is looked up under "code." and else under "code.internal".
import { signal } from "@preact/signals";
import type { Failure } from "../protocol";

const en = {
  language: "Language", login: "Sign in", register: "Create an account", logout: "Sign out",
  username: "User name", password: "Password", displayName: "Name others see", invite: "Invite code",
  passwordHint: "At least 8 characters. A few words are easier to remember than symbols.",
  usernameHint: "Letters a–z, digits, dot, dash and underscore.",
  inviteHint: "Leave it empty if you were not given one.",
  noAccount: "No account yet?", haveAccount: "Already have an account?",
  hello: "Hello,", servedBy: "Served by", sessions: "Signed-in devices",
  thisDevice: "This device", lastUsed: "Last used", endSession: "Sign out",
  liveOpening: "Connecting…", liveClosed: "No connection. Trying again…",
  queued: "{count} not sent yet.",
  sessionEnded: "You were signed out.", offline: "The server cannot be reached. Check your connection and try again.",
  retryIn: "Try again in {seconds} seconds.",
  needsHttps: "Your account works. Chat needs https: over plain http a browser cannot encrypt, so nothing is sent from here.",

  conversations: "Conversations", conversation: "Conversation", people: "People", contacts: "Contacts", requests: "Requests", messages: "Messages",
  settings: "Settings", search: "Search", results: "Results", searching: "Searching…", nothingFound: "No message on this device has these words.",
  newGroup: "New group", noChats: "No conversations yet. Find somebody to write to.", findPeople: "Find people",
  findPeopleHint: "The beginning of a user name", nobodyFound: "Nobody has a user name that begins like this.", noContacts: "No contacts yet.",
  asked: "Waiting for an answer", blockedPeople: "Blocked", nothingOpen: "Nothing open", nothingOpenHint: "Choose a conversation. Only its members can read what is in it.",
  message: "Message", accept: "Accept", reject: "Decline", cancelRequest: "Cancel request", addContact: "Add contact", block: "Block", unblock: "Unblock", removeContact: "Remove contact",
  groupName: "Name of the group", createGroup: "Create group", addMembers: "Add people", leaveGroup: "Leave group", remove: "Remove",
  memberCount: "Members: {count}", "role.owner": "Owner", "role.admin": "Administrator", "role.member": "Member",
  save: "Save", saved: "Saved.", cancel: "Cancel", close: "Close", back: "Back", done: "Done", continue: "Continue", begin: "Begin", notNow: "Not now", details: "Details",
  you: "You", someone: "Somebody", online: "Online", lastSeen: "Last here", encrypted: "End-to-end encrypted", verified: "Verified",
  today: "Today", yesterday: "Yesterday", unread: "unread", newMessages: "New messages", beginning: "This is where your view of the conversation begins. Messages are end-to-end encrypted.",
  isTyping: "typing…", "typing.one": "{who} is typing…", "typing.many": "{who} are typing…",
  writeMessage: "Write a message", send: "Send", reply: "Reply", edit: "Edit", editing: "Editing your message", delete: "Delete for everybody", copy: "Copy", copied: "Copied.",
  reactOrMore: "React, and more", reactions: "Reactions", edited: "edited", deleted: "Message deleted", notHere: "A message that is not on this page", toEnd: "To the newest message",
  sending: "Waiting to be sent", sent: "Sent", delivered: "Delivered", read: "Read", notSent: "Not sent.", again: "Send again", discard: "Discard", notMember: "You are no longer in this conversation.",
  "broken.waiting": "Waiting for the key to this message", "broken.untrusted": "Hidden: it came from a device its sender has not confirmed",
  "broken.replayed": "Hidden: a message that was shown before, under another name", "broken.damaged": "This message cannot be read",
  "warning.identity": "The sender's identity is not the one you knew", "warning.restored": "Its key came from your backup, so its sender cannot be proven",
  "held.identity_changed": "Held back until you decide about the changed identity.", "held.no_keys_yet": "Held back until they have signed in with a device of their own.",
  "event.created": "{who} started the conversation", "event.renamed": "{who} named the group “{name}”", "event.added": "{who} added {whom}", "event.removed": "{who} removed {whom}",
  "event.left": "{who} left", "event.role": "{who} made {whom} {role}", "event.message_life": "{who} changed how long messages stay",

  identityChanged: "{who} has a new security identity.", identityChangedHint: "They may have lost all their devices, or somebody may be pretending to be them. Nothing is sent until you decide. Ask them by another way.",
  verify: "Compare emoji", acceptIdentity: "Accept it", encryption: "Encryption",
  identityVerified: "You have verified {who}. You will be told if that changes.", identityUnverified: "Compare emoji with {who}, side by side or in a call, to be sure that nobody is between you.",
  compareFingerprints: "Compare fingerprints", fingerprintsHint: "Where emoji cannot be compared: each of you reads both aloud, and hears the same.", fingerprintOurs: "Your fingerprint", fingerprintTheirs: "Fingerprint of {who}", fingerprintsMatch: "The fingerprints match",
  deviceUnverified: "This device cannot read earlier messages yet, and others cannot trust it.", confirmDevice: "Confirm this device", keysFailed: "The keys of this device could not be opened. Close other windows of this page and load it again.",
  confirmDeviceHint: "Show that it is you. Then this device reads your earlier messages, and others trust it.",
  withOtherDevice: "With another device of yours", withRecoveryKey: "With your recovery key", compareEmoji: "Compare emoji", haveNeither: "I have neither",
  recoveryKey: "Recovery key", recoveryKeyHint: "With this key you can read your messages again if you lose your devices. Keep it where only you find it. It is shown only now.",
  recoveryKeyKept: "I have kept it in a safe place.", saveFile: "Save as a file", recovered: "This device is confirmed. Keys of earlier messages: {count}.",
  resetIdentity: "Start over", resetIdentityHint: "You get a new identity and a new recovery key. Messages whose keys are lost stay unreadable, and your contacts are told that your identity changed.",
  yourOtherDevice: "your other device", verifyDevice: "Confirm a device", verifyPerson: "Verify {who}", verifyAsked: "{who} wants to compare emoji with you.", verifyWaiting: "Waiting for {who}…",
  verifyCompare: "Does {who} show the same emoji in the same order?", emojiMatch: "They are the same", emojiDiffer: "They differ",
  verifyDone: "{who} is verified.", verifyDoneOwn: "The device is confirmed.", verifyCancelled: "It was cancelled. If the emoji differed, somebody may be between you: do not go on writing.",
  theme: "Appearance", "theme.system": "Like the system", "theme.light": "Light", "theme.dark": "Dark", notifications: "Notifications", allow: "Allow", newMessage: "New message", notificationsShow: "Notifications show", "notificationsShow.words": "Who wrote, and what", "notificationsShow.name": "Only who wrote", notificationsOn: "On", notificationsOff: "Not allowed in this browser",
  "device.starting": "The keys of this device are being prepared.", "device.ready": "This device is confirmed.", "device.unverified": "This device is not confirmed yet.", "device.failed": "The keys of this device could not be opened.", "device.insecure": "",
  backupOn: "Your keys are backed up under your recovery key.", backupOff: "Your keys are not backed up.",
  changePassword: "Change password", currentPassword: "Current password", newPassword: "New password", passwordChanged: "The new password holds. Your other devices were signed out.",
  logoutLosesKeys: "This device may have keys that are nowhere else. If you sign out, messages only they open are lost.",

  "code.wrong_credentials": "The user name or the password is wrong.",
  "code.too_many_attempts": "Too many attempts.",
  "code.too_many_requests": "Too many requests.",
  "code.busy": "Many people are signing in right now.",
  "code.username_taken": "That user name is taken. Choose another one.",
  "code.invalid_username": "A user name has 2 to 32 letters a–z, digits, dots, dashes and underscores, and starts and ends with a letter or digit.",
  "code.invalid_display_name": "The name others see has 1 to 64 characters.",
  "code.weak_password": "Choose a longer password, and not your user name.",
  "code.invite_invalid": "You need a valid invite code to create an account here.",
  "code.registration_closed": "No accounts can be created here. Ask the operator for one.",
  "code.session_ended": "This session has ended. Sign in again.",
  "code.unavailable": "The service is not available right now. Try again in a moment.",
  "code.internal": "Something went wrong on our side. Try again in a moment.",
  "code.offline": "The server cannot be reached. Check your connection and try again.",
  "code.no_such_user": "There is nobody of that name.",
  "code.blocked_by_you": "You have blocked this person. Unblock them first.",
  "code.too_many_contacts": "You have as many contacts as are possible.",
  "code.wrong_recovery_key": "This is not the recovery key of your account. Compare it letter by letter.",
  "code.identity_replaced": "The identity on the server is not yours. Ask the operator before you go on.",
  "code.reauthentication_required": "The password is wrong.",
  "code.identity_changed": "This identity has just changed. Look at it again.",
  "code.no_device_to_verify": "There is no other confirmed device to compare with.",
};

type Texts = Record<keyof typeof en, string>;

const vi: Texts = {
  language: "Ngôn ngữ", login: "Đăng nhập", register: "Tạo tài khoản", logout: "Đăng xuất",
  username: "Tên đăng nhập", password: "Mật khẩu", displayName: "Tên hiển thị", invite: "Mã mời",
  passwordHint: "Ít nhất 8 ký tự. Vài từ ghép lại dễ nhớ hơn các ký hiệu.",
  usernameHint: "Chữ cái a–z, chữ số, dấu chấm, gạch ngang và gạch dưới.",
  inviteHint: "Để trống nếu bạn không có mã.",
  noAccount: "Chưa có tài khoản?", haveAccount: "Đã có tài khoản?",
  hello: "Xin chào,", servedBy: "Máy chủ phục vụ", sessions: "Thiết bị đã đăng nhập",
  thisDevice: "Thiết bị này", lastUsed: "Dùng lần cuối", endSession: "Đăng xuất",
  liveOpening: "Đang kết nối…", liveClosed: "Mất kết nối. Đang thử lại…",
  queued: "{count} tin chưa gửi.",
  sessionEnded: "Bạn đã được đăng xuất.", offline: "Không thể kết nối máy chủ. Hãy kiểm tra mạng rồi thử lại.",
  retryIn: "Hãy thử lại sau {seconds} giây.",
  needsHttps: "Tài khoản của bạn hoạt động. Trò chuyện cần https: qua http trình duyệt không thể mã hóa, nên không có gì được gửi từ đây.",

  conversations: "Trò chuyện", conversation: "Cuộc trò chuyện", people: "Mọi người", contacts: "Danh bạ", requests: "Lời mời", messages: "Tin nhắn",
  settings: "Cài đặt", search: "Tìm kiếm", results: "Kết quả", searching: "Đang tìm…", nothingFound: "Không có tin nhắn nào trên thiết bị này chứa những từ đó.",
  newGroup: "Nhóm mới", noChats: "Chưa có cuộc trò chuyện nào. Hãy tìm ai đó để nhắn tin.", findPeople: "Tìm người",
  findPeopleHint: "Phần đầu của tên đăng nhập", nobodyFound: "Không ai có tên đăng nhập bắt đầu như vậy.", noContacts: "Chưa có liên hệ nào.",
  asked: "Đang chờ trả lời", blockedPeople: "Đã chặn", nothingOpen: "Chưa mở cuộc trò chuyện", nothingOpenHint: "Hãy chọn một cuộc trò chuyện. Chỉ thành viên mới đọc được nội dung.",
  message: "Nhắn tin", accept: "Chấp nhận", reject: "Từ chối", cancelRequest: "Hủy lời mời", addContact: "Thêm liên hệ", block: "Chặn", unblock: "Bỏ chặn", removeContact: "Xóa liên hệ",
  groupName: "Tên nhóm", createGroup: "Tạo nhóm", addMembers: "Thêm người", leaveGroup: "Rời nhóm", remove: "Xóa",
  memberCount: "Thành viên: {count}", "role.owner": "Chủ nhóm", "role.admin": "Quản trị viên", "role.member": "Thành viên",
  save: "Lưu", saved: "Đã lưu.", cancel: "Hủy", close: "Đóng", back: "Quay lại", done: "Xong", continue: "Tiếp tục", begin: "Bắt đầu", notNow: "Để sau", details: "Chi tiết",
  you: "Bạn", someone: "Ai đó", online: "Đang trực tuyến", lastSeen: "Có mặt lần cuối", encrypted: "Mã hóa đầu cuối", verified: "Đã xác minh",
  today: "Hôm nay", yesterday: "Hôm qua", unread: "chưa đọc", newMessages: "Tin nhắn mới", beginning: "Phần bạn xem được bắt đầu từ đây. Tin nhắn được mã hóa đầu cuối.",
  isTyping: "đang nhập…", "typing.one": "{who} đang nhập…", "typing.many": "{who} đang nhập…",
  writeMessage: "Viết tin nhắn", send: "Gửi", reply: "Trả lời", edit: "Sửa", editing: "Đang sửa tin nhắn", delete: "Xóa với mọi người", copy: "Sao chép", copied: "Đã sao chép.",
  reactOrMore: "Bày tỏ cảm xúc và thêm nữa", reactions: "Cảm xúc", edited: "đã sửa", deleted: "Tin nhắn đã xóa", notHere: "Tin nhắn không có trên trang này", toEnd: "Đến tin mới nhất",
  sending: "Đang chờ gửi", sent: "Đã gửi", delivered: "Đã nhận", read: "Đã đọc", notSent: "Chưa gửi được.", again: "Gửi lại", discard: "Bỏ", notMember: "Bạn không còn trong cuộc trò chuyện này.",
  "broken.waiting": "Đang chờ khóa của tin nhắn này", "broken.untrusted": "Đã ẩn: đến từ thiết bị mà người gửi chưa xác nhận",
  "broken.replayed": "Đã ẩn: tin nhắn từng hiện trước đây, dưới tên khác", "broken.damaged": "Không thể đọc tin nhắn này",
  "warning.identity": "Danh tính của người gửi không phải danh tính bạn từng biết", "warning.restored": "Khóa lấy từ bản sao lưu, nên không chứng minh được người gửi",
  "held.identity_changed": "Giữ lại cho đến khi bạn quyết định về danh tính đã đổi.", "held.no_keys_yet": "Giữ lại cho đến khi họ đăng nhập bằng thiết bị của mình.",
  "event.created": "{who} đã bắt đầu cuộc trò chuyện", "event.renamed": "{who} đặt tên nhóm là “{name}”", "event.added": "{who} đã thêm {whom}", "event.removed": "{who} đã xóa {whom}",
  "event.left": "{who} đã rời đi", "event.role": "{who} đặt {whom} làm {role}", "event.message_life": "{who} đã đổi thời gian lưu tin nhắn",

  identityChanged: "{who} có danh tính bảo mật mới.", identityChangedHint: "Có thể họ đã mất mọi thiết bị, hoặc có người giả làm họ. Không có gì được gửi cho đến khi bạn quyết định. Hãy hỏi họ bằng cách khác.",
  verify: "So sánh biểu tượng", acceptIdentity: "Chấp nhận", encryption: "Mã hóa",
  identityVerified: "Bạn đã xác minh {who}. Bạn sẽ được báo nếu điều đó thay đổi.", identityUnverified: "Hãy so sánh biểu tượng với {who}, khi ngồi cạnh nhau hoặc qua cuộc gọi, để chắc rằng không có ai ở giữa.",
  compareFingerprints: "So sánh dấu vân tay khóa", fingerprintsHint: "Khi không so sánh được biểu tượng: mỗi người đọc to cả hai dấu vân tay và nghe thấy giống nhau.", fingerprintOurs: "Dấu vân tay của bạn", fingerprintTheirs: "Dấu vân tay của {who}", fingerprintsMatch: "Các dấu vân tay giống nhau",
  deviceUnverified: "Thiết bị này chưa đọc được tin nhắn cũ, và người khác chưa thể tin nó.", confirmDevice: "Xác nhận thiết bị này", keysFailed: "Không mở được khóa của thiết bị này. Hãy đóng các cửa sổ khác của trang và tải lại.",
  confirmDeviceHint: "Hãy chứng tỏ đó là bạn. Sau đó thiết bị này đọc được tin nhắn cũ và người khác tin nó.",
  withOtherDevice: "Bằng một thiết bị khác của bạn", withRecoveryKey: "Bằng khóa khôi phục", compareEmoji: "So sánh biểu tượng", haveNeither: "Tôi không có cả hai",
  recoveryKey: "Khóa khôi phục", recoveryKeyHint: "Với khóa này bạn đọc lại được tin nhắn nếu mất các thiết bị. Hãy cất ở nơi chỉ bạn tìm thấy. Khóa chỉ hiện lúc này.",
  recoveryKeyKept: "Tôi đã cất khóa ở nơi an toàn.", saveFile: "Lưu thành tệp", recovered: "Thiết bị này đã được xác nhận. Số khóa tin nhắn cũ: {count}.",
  resetIdentity: "Bắt đầu lại", resetIdentityHint: "Bạn nhận danh tính mới và khóa khôi phục mới. Tin nhắn đã mất khóa sẽ không đọc được, và liên hệ của bạn được báo rằng danh tính của bạn đã đổi.",
  yourOtherDevice: "thiết bị khác của bạn", verifyDevice: "Xác nhận thiết bị", verifyPerson: "Xác minh {who}", verifyAsked: "{who} muốn so sánh biểu tượng với bạn.", verifyWaiting: "Đang chờ {who}…",
  verifyCompare: "{who} có thấy cùng các biểu tượng theo cùng thứ tự không?", emojiMatch: "Giống nhau", emojiDiffer: "Khác nhau",
  verifyDone: "{who} đã được xác minh.", verifyDoneOwn: "Thiết bị đã được xác nhận.", verifyCancelled: "Đã hủy. Nếu biểu tượng khác nhau, có thể có người ở giữa: đừng nhắn tin tiếp.",
  theme: "Giao diện", "theme.system": "Theo hệ thống", "theme.light": "Sáng", "theme.dark": "Tối", notifications: "Thông báo", allow: "Cho phép", newMessage: "Tin nhắn mới", notificationsShow: "Thông báo hiển thị", "notificationsShow.words": "Người gửi và nội dung", "notificationsShow.name": "Chỉ người gửi", notificationsOn: "Đang bật", notificationsOff: "Trình duyệt này không cho phép",
  "device.starting": "Đang chuẩn bị khóa của thiết bị này.", "device.ready": "Thiết bị này đã được xác nhận.", "device.unverified": "Thiết bị này chưa được xác nhận.", "device.failed": "Không mở được khóa của thiết bị này.", "device.insecure": "",
  backupOn: "Các khóa được sao lưu dưới khóa khôi phục của bạn.", backupOff: "Các khóa chưa được sao lưu.",
  changePassword: "Đổi mật khẩu", currentPassword: "Mật khẩu hiện tại", newPassword: "Mật khẩu mới", passwordChanged: "Mật khẩu mới đã có hiệu lực. Các thiết bị khác đã bị đăng xuất.",
  logoutLosesKeys: "Thiết bị này có thể giữ những khóa không có ở nơi nào khác. Nếu đăng xuất, các tin nhắn chỉ chúng mở được sẽ mất.",

  "code.wrong_credentials": "Tên đăng nhập hoặc mật khẩu không đúng.",
  "code.too_many_attempts": "Quá nhiều lần thử.",
  "code.too_many_requests": "Quá nhiều yêu cầu.",
  "code.busy": "Nhiều người đang đăng nhập cùng lúc.",
  "code.username_taken": "Tên đăng nhập này đã có người dùng. Hãy chọn tên khác.",
  "code.invalid_username": "Tên đăng nhập gồm 2 đến 32 chữ cái a–z, chữ số, dấu chấm, gạch ngang hoặc gạch dưới, bắt đầu và kết thúc bằng chữ cái hoặc chữ số.",
  "code.invalid_display_name": "Tên hiển thị có từ 1 đến 64 ký tự.",
  "code.weak_password": "Hãy chọn mật khẩu dài hơn và khác tên đăng nhập.",
  "code.invite_invalid": "Bạn cần một mã mời hợp lệ để tạo tài khoản ở đây.",
  "code.registration_closed": "Không thể tạo tài khoản ở đây. Hãy hỏi người vận hành.",
  "code.session_ended": "Phiên này đã kết thúc. Hãy đăng nhập lại.",
  "code.unavailable": "Dịch vụ tạm thời không sẵn sàng. Hãy thử lại sau giây lát.",
  "code.internal": "Đã có lỗi ở phía chúng tôi. Hãy thử lại sau giây lát.",
  "code.offline": "Không thể kết nối máy chủ. Hãy kiểm tra mạng rồi thử lại.",
  "code.no_such_user": "Không có ai mang tên đó.",
  "code.blocked_by_you": "Bạn đã chặn người này. Hãy bỏ chặn trước.",
  "code.too_many_contacts": "Danh bạ của bạn đã đầy.",
  "code.wrong_recovery_key": "Đây không phải khóa khôi phục của tài khoản này. Hãy so từng ký tự.",
  "code.identity_replaced": "Danh tính trên máy chủ không phải của bạn. Hãy hỏi người vận hành trước khi tiếp tục.",
  "code.reauthentication_required": "Mật khẩu không đúng.",
  "code.identity_changed": "Danh tính này vừa thay đổi. Hãy xem lại.",
  "code.no_device_to_verify": "Không có thiết bị nào khác đã xác nhận để so sánh.",
};

// The 64 signs of a comparison in the order of the Matrix specification ("SAS method: emoji"), which names them in English.
const emojiVi = ["Chó", "Mèo", "Sư tử", "Ngựa", "Kỳ lân", "Lợn", "Voi", "Thỏ", "Gấu trúc", "Gà trống", "Chim cánh cụt", "Rùa", "Cá", "Bạch tuộc", "Bướm", "Hoa", "Cây", "Xương rồng", "Nấm", "Địa cầu", "Mặt trăng", "Mây", "Lửa", "Chuối", "Táo", "Dâu tây", "Ngô", "Pizza", "Bánh kem", "Trái tim", "Mặt cười", "Robot", "Mũ", "Kính", "Cờ lê", "Ông già Noel", "Ngón cái", "Cái ô", "Đồng hồ cát", "Đồng hồ", "Quà", "Bóng đèn", "Sách", "Bút chì", "Kẹp giấy", "Kéo", "Ổ khóa", "Chìa khóa", "Búa", "Điện thoại", "Cờ", "Tàu hỏa", "Xe đạp", "Máy bay", "Tên lửa", "Cúp", "Quả bóng", "Đàn ghi-ta", "Kèn", "Chuông", "Mỏ neo", "Tai nghe", "Thư mục", "Ghim"];

const texts: Record<string, Texts> = { en, vi };
export const languages = { en: "English", vi: "Tiếng Việt" };

const kept = localStorage.getItem("language") ?? (navigator.language.startsWith("vi") ? "vi" : "en");
export const language = signal(kept in texts ? kept : "en");

export function setLanguage(next: string) {
  language.value = next;
  document.documentElement.lang = next;
  localStorage.setItem("language", next);
}

export const text = (key: string): string => texts[language.value]![key as keyof Texts] ?? key;

export const emojiName = (index: number): string | undefined => (language.value === "vi" ? emojiVi[index] : undefined);

// A refusal in the reader's words: ours for codes we know, else the platform's own sentence, which is for people too.
export function refusal({ code, status, detail, retryAfter }: Failure): string {
  const known = texts[language.value]!["code." + code as keyof Texts];
  const sentence = known ?? (status < 500 && detail ? detail : text("code.internal"));
  return retryAfter ? `${sentence} ${text("retryIn").replace("{seconds}", String(retryAfter))}` : sentence;
}

// Fills every element that carries data-text.
export function translate() {
  document.documentElement.lang = language.value;
  for (const element of Array.from(document.querySelectorAll<HTMLElement>("[data-text]"))) element.textContent = text(element.dataset["text"]!);
}
