// The shapes of services/internal/wire/chat.go, contacts.go and calls.go, as far as they are read here.
import type { CallRecord, Id, Media, OngoingCall, Relation } from "../protocol";

export interface Conversation { id: Id; kind: "direct" | "group"; name?: string; with?: Id; role: string; head: number; joined_seq: number; message_life: number; delivered: number; read: number; created_at: string }
export interface Conversations { conversations: Conversation[]; next?: Id }
export interface MemberView { user_id: Id; role: "owner" | "admin" | "member"; joined_seq: number; delivered: number; read: number }
export interface Item { seq: number; kind: "message" | "cleared" | "expired" | "event"; at?: string; sender?: Id; device?: string; client_id?: Id; body?: string; expires_at?: string; event?: WireEvent }
export interface WireEvent { type: string; users?: Id[]; name?: string; role?: string; successor?: Id; message_life?: number }
export interface ItemPage { items: Item[] | null; through: number; head: number; more?: boolean }
export interface Profile { id: Id; username: string; display_name: string; relation?: Relation; state?: Relation; since?: string }
export interface CallView { id: Id; conversation_id?: Id; media: Media; started_by: Id; started_at: string; state: OngoingCall["state"]; reason?: string; members: { user_id: Id; state: OngoingCall["members"][number]["state"]; device_id?: string }[] | null }
export interface RecordView { call_id: Id; conversation_id: Id; media: Media; started_by: Id; started_at: string; ended_at: string; seconds: number; outcome: CallRecord["outcome"]; reason: string }
