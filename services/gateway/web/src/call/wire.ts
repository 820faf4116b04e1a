// The shapes of services/internal/wire/calls.go, as far as they are read here.
import type { Id } from "../protocol";

export type Source = "microphone" | "camera" | "screen" | "screen_audio";
export type Want = "off" | "low" | "medium" | "high";
export type Quality = "good" | "fair" | "poor" | "lost";

export interface Ice { servers: { urls: string[]; username: string; credential: string }[]; expires_at: string }
export interface WireTrack { id: Id; mid: string; source: Source; muted: boolean }
export interface WireParticipant { id: Id; user_id: Id; device_id: string; joined_at: string; here: boolean; tracks: WireTrack[] | null }
export interface Slot { mid: string; track_id?: Id }
export interface OfferedTrack { mid: string; source: Source; muted?: boolean }

export interface WireCall {
  id: Id;
  conversation_id?: Id;
  test?: boolean;
  media: "audio" | "video";
  started_by: Id;
  started_at: string;
  answered_at?: string;
  ended_at?: string;
  state: "ringing" | "live" | "ended";
  reason?: string;
  members: { user_id: Id; state: string; device_id?: string }[] | null;
}

export interface Joined {
  type: "joined";
  id: string;
  call: WireCall;
  participant_id: Id;
  secret: string;
  resumed: boolean;
  participants: WireParticipant[];
  ice: Ice;
  host: string;
  fence: number;
}

export type Frame =
  | Joined
  | { type: "ready" }
  | { type: "pong"; id: string }
  | { type: "answer"; id: string; sdp: string }
  | { type: "offer"; version: number; sdp: string }
  | { type: "participant"; participant: WireParticipant }
  | { type: "gone"; participant_id: Id }
  | { type: "slots"; slots: Slot[] }
  | { type: "speakers"; speakers: { participant_id: Id; level: number }[] | null }
  | { type: "quality"; up: Quality; down: Quality; participants?: Record<Id, Quality> }
  | { type: "layers"; mid: string; active: string[] | null }
  | { type: "ice"; ice: Ice }
  | { type: "moved" }
  | { type: "ended"; reason: string }
  | { type: "error"; id?: string; code: string; detail: string; retry_after?: number };
