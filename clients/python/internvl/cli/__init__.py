"""The command `internvl`. Answers go to standard output, all else to standard error.

main           the commands and where each is implemented; imports a command when it is called
ask            one question, one answer
chat           a conversation at a terminal
batch          a file of questions to a file of answers
health         one health check of one service
boxes          regions of a reply, drawn on their image
interactive    the conversation of `chat`: lines in, replies out as they come
health_check   the health check itself
option_groups  options that several commands share
output         bars, notes and reasons on standard error
"""
