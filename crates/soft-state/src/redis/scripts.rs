//! What has to happen in one step on the server. Each script touches one key; time is the
//! server's, so the clocks of nodes do not matter.

use redis::Script;

/// KEYS: Task. ARGV: node, viewers (may be empty), time to live in ms, channel, message.
/// Answers what the other nodes said; tells them if this node's word changed.
const ANNOUNCE: &str = r"
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local old = redis.call('HGET', KEYS[1], ARGV[1])
local was = ''
if old then
  local cut = string.find(old, '|', 1, true)
  if tonumber(string.sub(old, 1, cut - 1)) > now then was = string.sub(old, cut + 1) end
end
if ARGV[2] == '' then
  redis.call('HDEL', KEYS[1], ARGV[1])
else
  redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f|', now + ARGV[3]) .. ARGV[2])
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
end
local said = {}
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local cut = string.find(all[i + 1], '|', 1, true)
  if tonumber(string.sub(all[i + 1], 1, cut - 1)) <= now then
    redis.call('HDEL', KEYS[1], all[i])
  elseif all[i] ~= ARGV[1] then
    said[#said + 1] = string.sub(all[i + 1], cut + 1)
  end
end
if was ~= ARGV[2] then redis.call('PUBLISH', ARGV[4], ARGV[5]) end
return said
";

/// KEYS: Task. ARGV: node. Answers what the other nodes said.
const ELSEWHERE: &str = r"
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local said = {}
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local cut = string.find(all[i + 1], '|', 1, true)
  if all[i] ~= ARGV[1] and tonumber(string.sub(all[i + 1], 1, cut - 1)) > now then
    said[#said + 1] = string.sub(all[i + 1], cut + 1)
  end
end
return said
";

/// KEYS: Task. ARGV: seq, note, time to live in ms. Answers whether it was kept.
const PUT_STATUS: &str = r"
local old = redis.call('GET', KEYS[1])
if old then
  local cut = string.find(old, '|', 1, true)
  if cut and tonumber(string.sub(old, 1, cut - 1)) > tonumber(ARGV[1]) then return 0 end
end
redis.call('SET', KEYS[1], ARGV[1] .. '|' .. ARGV[2], 'PX', ARGV[3])
return 1
";

/// The generic cell rate algorithm, as in `gcra.rs`. KEYS: counter. ARGV: interval and reach in
/// microseconds. Answers how long to wait, in microseconds; 0 if it is allowed.
const TAKE: &str = r"
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local interval, reach = tonumber(ARGV[1]), tonumber(ARGV[2])
local tat = tonumber(redis.call('GET', KEYS[1]) or '0')
local next = math.max(math.min(tat, now + reach), now) + interval
local open_at = next - reach
if now < open_at then return open_at - now end
local left = math.ceil((next - now) / 1000)
redis.call('SET', KEYS[1], string.format('%.0f', next), 'PX', string.format('%.0f', left))
return 0
";

/// KEYS: counter. ARGV: interval in microseconds.
const GIVE_BACK: &str = r"
local tat = tonumber(redis.call('GET', KEYS[1]) or '0')
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
tat = tat - tonumber(ARGV[1])
if tat <= now then
  redis.call('DEL', KEYS[1])
else
  local left = math.ceil((tat - now) / 1000)
  redis.call('SET', KEYS[1], string.format('%.0f', tat), 'PX', string.format('%.0f', left))
end
";

/// Sent by their hash; the library sends the text when the server does not know it.
#[derive(Debug)]
pub(super) struct Scripts {
    pub(super) announce: Script,
    pub(super) elsewhere: Script,
    pub(super) put_status: Script,
    pub(super) take: Script,
    pub(super) give_back: Script,
}

impl Scripts {
    pub(super) fn new() -> Self {
        Self {
            announce: Script::new(ANNOUNCE),
            elsewhere: Script::new(ELSEWHERE),
            put_status: Script::new(PUT_STATUS),
            take: Script::new(TAKE),
            give_back: Script::new(GIVE_BACK),
        }
    }
}
