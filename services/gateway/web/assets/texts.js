// Every sentence a person reads. A code the platform answers with is looked up under "code." and else under "code.internal".

const texts = {
  en: {
    language: "Language", login: "Sign in", register: "Create an account", logout: "Sign out",
    username: "User name", password: "Password", displayName: "Name others see", invite: "Invite code",
    passwordHint: "At least 8 characters. A few words are easier to remember than symbols.",
    usernameHint: "Letters a–z, digits, dot, dash and underscore.",
    inviteHint: "Leave it empty if you were not given one.",
    noAccount: "No account yet?", haveAccount: "Already have an account?",
    hello: "Hello,", servedBy: "Served by", liveConnection: "Live connection", sessions: "Signed-in devices",
    thisDevice: "This device", lastUsed: "Last used", endSession: "Sign out", endSessionOf: "Sign out of",
    liveOpening: "connecting…", liveOpen: "connected", liveClosed: "lost, trying again…", liveEnded: "ended",
    sessionEnded: "You were signed out.", offline: "The server cannot be reached. Check your connection and try again.",
    retryIn: "Try again in {seconds} seconds.",
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
  },
  vi: {
    language: "Ngôn ngữ", login: "Đăng nhập", register: "Tạo tài khoản", logout: "Đăng xuất",
    username: "Tên đăng nhập", password: "Mật khẩu", displayName: "Tên hiển thị", invite: "Mã mời",
    passwordHint: "Ít nhất 8 ký tự. Vài từ ghép lại dễ nhớ hơn các ký hiệu.",
    usernameHint: "Chữ cái a–z, chữ số, dấu chấm, gạch ngang và gạch dưới.",
    inviteHint: "Để trống nếu bạn không có mã.",
    noAccount: "Chưa có tài khoản?", haveAccount: "Đã có tài khoản?",
    hello: "Xin chào,", servedBy: "Máy chủ phục vụ", liveConnection: "Kết nối trực tiếp", sessions: "Thiết bị đã đăng nhập",
    thisDevice: "Thiết bị này", lastUsed: "Dùng lần cuối", endSession: "Đăng xuất", endSessionOf: "Đăng xuất khỏi",
    liveOpening: "đang kết nối…", liveOpen: "đã kết nối", liveClosed: "bị ngắt, đang thử lại…", liveEnded: "đã kết thúc",
    sessionEnded: "Bạn đã được đăng xuất.", offline: "Không thể kết nối máy chủ. Hãy kiểm tra mạng rồi thử lại.",
    retryIn: "Hãy thử lại sau {seconds} giây.",
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
  },
};

const remembered = "language";
let language = localStorage.getItem(remembered) ?? (navigator.language.startsWith("vi") ? "vi" : "en");
if (!(language in texts)) language = "en";

export const current = () => language;

export function choose(next) {
  language = next;
  localStorage.setItem(remembered, next);
}

export const text = (key) => texts[language][key] ?? key;

// A refusal in the reader's words: ours for codes we know, else the platform's own sentence, which is for people too.
export function refusal(problem) {
  const known = texts[language]["code." + problem.code];
  const sentence = known ?? (problem.status < 500 && problem.detail ? problem.detail : text("code.internal"));
  return problem.retryAfter ? `${sentence} ${text("retryIn").replace("{seconds}", problem.retryAfter)}` : sentence;
}

// Fills every element that carries data-text.
export function translate(root = document) {
  document.documentElement.lang = language;
  for (const element of root.querySelectorAll("[data-text]")) element.textContent = text(element.dataset.text);
}
