"""Questions and true answers, a module for each thing to talk about.

shapes      pictures of shapes or of a handwritten digit
sheets      printed words and numbers
charts      bar charts
windows     windows of a program
several     two to four pictures together
videos      videos
small_talk  talk without a picture, and about pictures that show nothing known
tools       tools in the system message, and calls of them
"""
