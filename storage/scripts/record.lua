-- One verdict. ARGV: line, run, cap, seq, counter, verdict as JSON, then names and values of what the line shows.
-- Returns 1, or 0 when the frame has a verdict already.

local seq = tonumber(ARGV[4])
if not finish(seq) then
  return 0
end
capture(seq + 1)
redis.call('HINCRBY', LINE, ARGV[5], 1)
redis.call('XADD', VERDICTS, 'MAXLEN', '~', cap, '*', 'v', ARGV[6])
show(seq, {unpack(ARGV, 7)})
settle()
return 1
